"""What the neurons know of a chain: snapshots of it, and the Chain protocol. Imports no SDK."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from ig_subnet.chain.outcomes import CommitmentOutcome, ServeOutcome, WeightsOutcome


@dataclass(frozen=True)
class AxonEndpoint:
    """Where a neuron says that it listens: `ip` in standard notation (IPv4 or IPv6, no brackets).

    Whatever its owner wrote: a validator must refuse private addresses itself.
    """

    ip: str
    port: int


@dataclass(frozen=True)
class NeuronSnapshot:
    """One neuron. Consensus figures are fractions in [0, 1] as of the last epoch.

    `stake` is in TAO: own stake plus the share of root stake that counts. `emission` is what the last epoch assigned,
    in the subnet's own token. `last_update` is the block of its last weights, `registered_at` the block of its
    registration: a uid whose `registered_at` changed belongs to someone else. `axon` is None where nothing is served.
    `trust` is 0 on runtimes that no longer keep it (461 does not).
    """

    uid: int
    hotkey: str
    coldkey: str
    stake: float
    validator_permit: bool
    active: bool
    last_update: int
    registered_at: int
    axon: AxonEndpoint | None
    incentive: float
    dividends: float
    emission: float
    consensus: float
    trust: float
    validator_trust: float


@dataclass(frozen=True)
class MetagraphSnapshot:
    """All neurons of a subnet at one block; `neurons[uid].uid == uid`. `owner_hotkey` need not be one of them."""

    netuid: int
    block: int
    neurons: tuple[NeuronSnapshot, ...]
    owner_hotkey: str | None = None

    @cached_property
    def _by_hotkey(self) -> dict[str, NeuronSnapshot]:
        return {neuron.hotkey: neuron for neuron in self.neurons}

    def by_hotkey(self, hotkey: str) -> NeuronSnapshot | None:
        """The neuron registered under an ss58 address, or None."""
        return self._by_hotkey.get(hotkey)


@dataclass(frozen=True)
class EpochTiming:
    """Where the subnet is in its cycle, all read at `block`.

    `blocks_since_last_update` is None without a uid, or where the uid does not exist. Registration counts as an update.
    `weights_rate_limit` is the number of blocks that must lie between two settings of weights. `reveal_epochs` is how
    many epochs after its own a commit is opened in, 0 where weights are set in the open.
    """

    block: int
    tempo: int
    blocks_until_next_epoch: int
    last_epoch_block: int
    blocks_since_last_update: int | None
    weights_rate_limit: int
    reveal_epochs: int = 0


@dataclass(frozen=True)
class Commitment:
    """What a hotkey has committed on the subnet, since `block`: the bytes that anybody can read.

    Whatever its owner wrote. `data` joins the fields of the commitment that are bytes or hashes; what is sealed until
    later is not in it, so it may be empty.
    """

    data: bytes
    block: int


class Chain(Protocol):
    """One subnet of one chain, seen by one hotkey.

    Every call has a deadline. Reads raise ChainUnavailable while the node is down and work again once it is back;
    writes say so in their outcome. A chain without a hotkey only reads.
    """

    @property
    def netuid(self) -> int: ...

    async def block_number(self) -> int:
        """The newest block."""
        ...

    async def metagraph(self) -> MetagraphSnapshot:
        """All neurons at the newest block. Raises SubnetNotFound."""
        ...

    async def registered_uid(self, hotkey: str) -> int | None:
        """The uid of an ss58 address on the subnet, or None. Raises InvalidAddress."""
        ...

    async def serve_axon(self, ip: str, port: int) -> ServeOutcome:
        """Publish where this hotkey listens; does nothing where the chain already says so."""
        ...

    async def set_weights(self, weights: Mapping[int, float], version_key: int) -> WeightsOutcome:
        """Set this hotkey's weights, uid -> weight; only their proportions count. Zeros are dropped.

        Commits instead of setting where the subnet hides weights, unless a commit still waits to be opened. Nothing is
        sent that the subnet's rules of this moment, its version key among them, would refuse or drop. Raises
        InvalidWeights for weights that are none.
        """
        ...

    async def sealed_weights(self, hotkey: str) -> int | None:
        """The block in which an ss58 address has committed weights that are not opened yet, or None."""
        ...

    async def epoch_timing(self, uid: int | None) -> EpochTiming:
        """The epoch's clock, and how long ago `uid` set weights. Raises SubnetNotFound."""
        ...

    async def weights_on_chain(self) -> dict[int, dict[int, float]]:
        """Validator uid -> {miner uid: share}; the shares of a row sum to 1."""
        ...

    async def publish_commitment(self, data: bytes) -> CommitmentOutcome:
        """Put up to 128 bytes on the chain under this hotkey, such as a hash, in the place of those before.

        Does nothing where the chain already has exactly these. Raises InvalidCommitment for none or too many bytes.
        """
        ...

    async def commitment_of(self, hotkey: str) -> Commitment | None:
        """What an ss58 address has committed on the subnet, or None. Raises InvalidAddress."""
        ...
