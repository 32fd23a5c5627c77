"""The chain, as the neurons use it. The only package that imports the bittensor SDK, and only once something connects.

wallet = load_wallet("my-coldkey", "my-hotkey")
async with open_chain("finney", netuid=23, wallet=wallet) as chain:
    metagraph = await chain.metagraph()
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ig_subnet.chain.errors import (
    CallRefused,
    ChainAnswerError,
    ChainError,
    ChainUnavailable,
    InvalidAddress,
    InvalidCommitment,
    InvalidWeights,
    KeyFileExists,
    KeyFileMissing,
    KeyFileUnusable,
    NonceStoreUnusable,
    SubnetNotFound,
    UnknownNetwork,
    WalletError,
)
from ig_subnet.chain.interface import AxonEndpoint, Chain, Commitment, EpochTiming, MetagraphSnapshot, NeuronSnapshot
from ig_subnet.chain.outcomes import (
    AxonServed,
    AxonUnchanged,
    CommitmentNotPermitted,
    CommitmentOutcome,
    CommitmentPublished,
    CommitmentRejected,
    CommitmentTooEarly,
    CommitmentUnchanged,
    CommitmentUnreachable,
    ServeNotPermitted,
    ServeOutcome,
    ServeRejected,
    ServeTooEarly,
    ServeUnreachable,
    WeightsCommitted,
    WeightsNotPermitted,
    WeightsOutcome,
    WeightsOutdated,
    WeightsRejected,
    WeightsSealed,
    WeightsSet,
    WeightsTooEarly,
    WeightsUnreachable,
)
from ig_subnet.chain.presence import Presence, wait_for_chain

if TYPE_CHECKING:
    from ig_subnet.chain.registration import add_stake, register
    from ig_subnet.chain.subtensor import open_chain
    from ig_subnet.chain.wallets import Wallet, coldkey_warning, create_wallet, load_coldkey, load_wallet

__all__ = [
    "open_chain",
    "Chain",
    "MetagraphSnapshot",
    "NeuronSnapshot",
    "AxonEndpoint",
    "EpochTiming",
    "Commitment",
    "Presence",
    "wait_for_chain",
    "Wallet",
    "load_wallet",
    "coldkey_warning",
    "load_coldkey",
    "create_wallet",
    "register",
    "add_stake",
    "WeightsOutcome",
    "WeightsSet",
    "WeightsCommitted",
    "WeightsTooEarly",
    "WeightsSealed",
    "WeightsOutdated",
    "WeightsNotPermitted",
    "WeightsRejected",
    "WeightsUnreachable",
    "ServeOutcome",
    "AxonServed",
    "AxonUnchanged",
    "ServeTooEarly",
    "ServeNotPermitted",
    "ServeRejected",
    "ServeUnreachable",
    "CommitmentOutcome",
    "CommitmentPublished",
    "CommitmentUnchanged",
    "CommitmentTooEarly",
    "CommitmentNotPermitted",
    "CommitmentRejected",
    "CommitmentUnreachable",
    "ChainError",
    "ChainUnavailable",
    "ChainAnswerError",
    "SubnetNotFound",
    "UnknownNetwork",
    "InvalidAddress",
    "InvalidWeights",
    "InvalidCommitment",
    "CallRefused",
    "NonceStoreUnusable",
    "WalletError",
    "KeyFileMissing",
    "KeyFileExists",
    "KeyFileUnusable",
]

# What needs the SDK (half a second to import) is loaded when it is first used.
_SDK_MODULES = {
    "open_chain": "ig_subnet.chain.subtensor",
    "Wallet": "ig_subnet.chain.wallets",
    "load_wallet": "ig_subnet.chain.wallets",
    "coldkey_warning": "ig_subnet.chain.wallets",
    "load_coldkey": "ig_subnet.chain.wallets",
    "create_wallet": "ig_subnet.chain.wallets",
    "register": "ig_subnet.chain.registration",
    "add_stake": "ig_subnet.chain.registration",
}


def __getattr__(name: str) -> Any:
    if name in _SDK_MODULES:
        return getattr(importlib.import_module(_SDK_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
