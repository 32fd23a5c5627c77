"""What became of a write: every way it can end is a value that the caller matches on.

    match await chain.set_weights(weights, version_key):
        case WeightsSet(block=block): ...
        case WeightsTooEarly(blocks=blocks): ...

Only what the caller did wrong (InvalidWeights, InvalidCommitment) and a missing key raise. `str(outcome)` is one line
for a log.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WeightsSet:
    """The weights are on the chain since `block`. `extrinsic` is "block-index", as explorers show it."""

    block: int
    extrinsic: str

    def __str__(self) -> str:
        return f"weights set in block {self.block} (extrinsic {self.extrinsic})"


@dataclass(frozen=True)
class WeightsCommitted:
    """The weights are committed, timelocked, and opened from `reveal_block` on, the beginning of an epoch.

    On finney a few blocks later, once drand's beacon is there, so that they count from the epoch after it.
    """

    reveal_block: int
    extrinsic: str

    def __str__(self) -> str:
        return f"weights committed, opened from block {self.reveal_block} (extrinsic {self.extrinsic})"


@dataclass(frozen=True)
class WeightsTooEarly:
    """The subnet's rate limit allows the next weights in `blocks` blocks (at least 1)."""

    blocks: int

    def __str__(self) -> str:
        return f"too early to set weights: {self.blocks} blocks to wait"


@dataclass(frozen=True)
class WeightsSealed:
    """What was committed in block `committed` is not opened yet, so nothing else was committed.

    It is to be opened from `reveal_block` on, the beginning of an epoch.
    """

    committed: int
    reveal_block: int

    def __str__(self) -> str:
        return f"waiting for the weights committed in block {self.committed}, opened from block {self.reveal_block}"


@dataclass(frozen=True)
class WeightsOutdated:
    """The subnet's version key is `required`, newer than the `version` of this software; nothing was sent."""

    required: int
    version: int

    def __str__(self) -> str:
        return f"the subnet requires version {self.required}, this is {self.version}: update this software"


@dataclass(frozen=True)
class WeightsNotPermitted:
    """This hotkey may not set weights: `reason` says whether it lacks registration, a validator permit or stake."""

    reason: str

    def __str__(self) -> str:
        return f"not permitted to set weights: {self.reason}"


@dataclass(frozen=True)
class WeightsRejected:
    """The chain's rules refuse these weights; the same weights would be refused again.

    `code` is the chain's own error name where it has one ("WeightVecLengthIsLow", ...).
    """

    code: str
    reason: str

    def __str__(self) -> str:
        return f"weights rejected ({self.code}): {self.reason}"


@dataclass(frozen=True)
class WeightsUnreachable:
    """The node could not be reached or did not confirm in time.

    The weights may still have landed. Trying again is safe: if they have, the answer is WeightsTooEarly.
    """

    reason: str

    def __str__(self) -> str:
        return f"weights not confirmed: {self.reason}"


WeightsOutcome = (
    WeightsSet
    | WeightsCommitted
    | WeightsTooEarly
    | WeightsSealed
    | WeightsOutdated
    | WeightsNotPermitted
    | WeightsRejected
    | WeightsUnreachable
)


@dataclass(frozen=True)
class AxonServed:
    """The endpoint is on the chain since `block`."""

    block: int
    extrinsic: str

    def __str__(self) -> str:
        return f"axon published in block {self.block} (extrinsic {self.extrinsic})"


@dataclass(frozen=True)
class AxonUnchanged:
    """The chain already has exactly this endpoint; nothing was sent."""

    def __str__(self) -> str:
        return "axon already published"


@dataclass(frozen=True)
class ServeTooEarly:
    """The endpoint was changed less than the serving rate limit ago: try again in at most `blocks` blocks."""

    blocks: int

    def __str__(self) -> str:
        return f"too early to publish the axon again: at most {self.blocks} blocks to wait"


@dataclass(frozen=True)
class ServeNotPermitted:
    """This hotkey may not publish an endpoint: it is not registered on the subnet."""

    reason: str

    def __str__(self) -> str:
        return f"not permitted to publish the axon: {self.reason}"


@dataclass(frozen=True)
class ServeRejected:
    """The chain refuses the endpoint: its code ("InvalidIpAddress", "InvalidPort", ...) and what it means."""

    code: str
    reason: str

    def __str__(self) -> str:
        return f"axon rejected ({self.code}): {self.reason}"


@dataclass(frozen=True)
class ServeUnreachable:
    """The node could not be reached or did not confirm in time; publishing again is harmless."""

    reason: str

    def __str__(self) -> str:
        return f"axon not confirmed: {self.reason}"


ServeOutcome = AxonServed | AxonUnchanged | ServeTooEarly | ServeNotPermitted | ServeRejected | ServeUnreachable


@dataclass(frozen=True)
class CommitmentPublished:
    """The bytes are on the chain since `block`, in the place of what this hotkey had committed before."""

    block: int
    extrinsic: str

    def __str__(self) -> str:
        return f"commitment published in block {self.block} (extrinsic {self.extrinsic})"


@dataclass(frozen=True)
class CommitmentUnchanged:
    """The chain has had exactly these bytes since `block`; nothing was sent."""

    block: int

    def __str__(self) -> str:
        return f"commitment already published in block {self.block}"


@dataclass(frozen=True)
class CommitmentTooEarly:
    """The hotkey's space of this epoch is used up; the next begins in `blocks` blocks (at least 1).

    The chain counts every commitment as 100 bytes at least, and grants 3100 bytes a hotkey, subnet and epoch.
    """

    blocks: int

    def __str__(self) -> str:
        return f"too early to publish a commitment: {self.blocks} blocks to wait for the next epoch's space"


@dataclass(frozen=True)
class CommitmentNotPermitted:
    """This hotkey may not commit: it is not registered on the subnet."""

    reason: str

    def __str__(self) -> str:
        return f"not permitted to publish a commitment: {self.reason}"


@dataclass(frozen=True)
class CommitmentRejected:
    """The chain refuses the commitment for another reason: its own error name where it has one, and what it means."""

    code: str
    reason: str

    def __str__(self) -> str:
        return f"commitment rejected ({self.code}): {self.reason}"


@dataclass(frozen=True)
class CommitmentUnreachable:
    """The node could not be reached or did not confirm in time.

    The commitment may still have landed. Trying again is safe: if it has, the answer is CommitmentUnchanged.
    """

    reason: str

    def __str__(self) -> str:
        return f"commitment not confirmed: {self.reason}"


CommitmentOutcome = (
    CommitmentPublished
    | CommitmentUnchanged
    | CommitmentTooEarly
    | CommitmentNotPermitted
    | CommitmentRejected
    | CommitmentUnreachable
)
