"""What this package raises. Outcomes of writes are values (outcomes.py), not exceptions.

ChainError
├── ChainUnavailable     the node is down, unreachable or did not answer in time; the same Chain works once it is back
├── ChainAnswerError     the node answered, but with an error or with something that cannot be read
├── SubnetNotFound       no such subnet on this network
├── UnknownNetwork       neither a known network nor a ws:// endpoint
├── InvalidAddress       the caller's ss58 address is none
├── InvalidWeights       the caller's weights are not weights: NaN, negative, all zero, a uid out of range
├── InvalidCommitment    the caller's bytes are no commitment: none at all, or more than the chain takes
├── CallRefused          the chain refused a registration or a stake
├── NonceStoreUnusable   the file for accepted nonces cannot be opened or is something else
└── WalletError          a key cannot be used
    ├── KeyFileMissing   a key file does not exist
    ├── KeyFileExists    a key file would be overwritten
    └── KeyFileUnusable  a key file is protected by a password, unreadable or not a key
"""

from __future__ import annotations

from pathlib import Path


class ChainError(Exception):
    """Anything that goes wrong between a neuron and the chain."""


class ChainUnavailable(ChainError):
    """The node did not serve a request. Nothing was changed by a read; try again later with the same Chain."""

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(
            f"the chain at {endpoint} is not available: {reason}; check the node and --subtensor.network or "
            "--subtensor.chain_endpoint"
        )
        self.endpoint = endpoint
        self.reason = reason


class ChainAnswerError(ChainError):
    """The node refused a request or gave an answer that this SDK cannot read, such as an older runtime's."""

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(
            f"the chain at {endpoint} gave an unusable answer: {reason}; check that the endpoint is a subtensor node"
        )
        self.endpoint = endpoint
        self.reason = reason


class SubnetNotFound(ChainError):
    """The subnet does not exist, or it never runs epochs."""

    def __init__(self, netuid: int, network: str) -> None:
        super().__init__(
            f"subnet {netuid} does not run on {network}: pass another --netuid (`btcli subnets list` shows them)"
        )
        self.netuid = netuid


class UnknownNetwork(ChainError):
    """The name is not a network's and not an endpoint."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"unknown network {name!r}: use one of {', '.join(known)}, or a ws:// or wss:// endpoint")


class InvalidAddress(ChainError, ValueError):
    """The address handed over is no account's: an error of the caller, which no retry mends."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"{address!r} is no account's address ({reason}): pass the 48 characters of a hotkey's ss58")


class InvalidWeights(ChainError, ValueError):
    """The weights handed over are no weights: an error of the caller, which no retry mends."""


class InvalidCommitment(ChainError, ValueError):
    """The bytes handed over cannot be committed: an error of the caller, which no retry mends."""


class CallRefused(ChainError):
    """The chain refused a coldkey-signed call; `code` is its own error name where it has one."""

    def __init__(self, what: str, code: str, reason: str) -> None:
        super().__init__(f"{what} was refused ({code}): {reason}")
        self.code = code


class NonceStoreUnusable(ChainError):
    """The file in which processes share what they accepted cannot be used; without it requests could be replayed."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(
            f"the nonce store {file} cannot be used: {reason}; give --axon.nonce_store a file of its own in a folder "
            "on a local disk that this process may write to"
        )
        self.file = file


class WalletError(ChainError):
    """A key that a neuron needs cannot be used."""


class KeyFileMissing(WalletError):
    """A key file does not exist."""

    def __init__(self, what: str, path: Path, command: str) -> None:
        super().__init__(f"{what} is missing: no file {path}; make it with `{command}`, or correct the --wallet flags")
        self.path = path


class KeyFileExists(WalletError):
    """A key file exists already and is not overwritten."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} exists already and is not overwritten: choose another wallet or hotkey name")
        self.path = path


class KeyFileUnusable(WalletError):
    """A key file exists, but its key cannot be had without a person or at all."""

    def __init__(self, path: Path, reason: str, remedy: str) -> None:
        super().__init__(f"the key file {path} cannot be used: {reason}; {remedy}")
        self.path = path
