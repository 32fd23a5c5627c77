"""What can go wrong while validating.

    ValidatingError
    ├── NotRegistered       the validator's hotkey is not, or no longer, on the subnet
    ├── ProfileUnusable     the profile's experts or prompts cannot be loaded, or do not fit together
    │   └── Uncalibrated    nobody has measured how an expert of it scores, and weights are to follow from that
    ├── RoundError          the validator itself failed: the round is void, and nobody is observed in it
    │   └── NobodyAnswered  no miner at all did
    └── StoreError          the score store cannot be used as it is
        ├── StoreMissing    there is no store at this path yet
        ├── StoreLocked     another process writes to it
        ├── StoreFull       the disk, or its quota, is full
        ├── StoreTooNew     it was written by a later version of this program
        ├── StoreDamaged    the file is no store, or is corrupt
        └── StoreForeign    its next round was planned by another validator

A round that a miner spoils is no error: that is an observation of 0.
"""

from __future__ import annotations


class ValidatingError(Exception):
    """The root of this tree; the message says what is wrong and what to do about it."""


class NotRegistered(ValidatingError):
    """Miners would refuse this hotkey, and every refusal would count against them: register it first."""


class ProfileUnusable(ValidatingError):
    """The profile lacks a section, or what it names cannot be loaded."""


class Uncalibrated(ProfileUnusable):
    """An expert without a measured reference distribution would pay miners by a guess; measure it first."""


class RoundError(ValidatingError):
    """The validator's own work failed; no miner may be blamed for it."""


class NobodyAnswered(RoundError):
    """No miner that was asked answered, which is more likely this side's doing than that of all of them at once."""


class StoreError(ValidatingError):
    """The score store cannot be opened, read or written."""


class StoreMissing(StoreError):
    """No store exists at the path; a validator creates it when it starts."""


class StoreLocked(StoreError):
    """Another process writes to the store; stop one of the two."""


class StoreFull(StoreError):
    """Nothing more can be written; free some space and start again, everything up to the last round is kept."""


class StoreTooNew(StoreError):
    """The schema is of a later version; upgrade, or use another `--neuron.name`."""


class StoreDamaged(StoreError):
    """The file is not a store or is corrupt; move it away and start anew, or restore it."""


class StoreForeign(StoreError):
    """Another hotkey, or this one on another subnet, has committed to the next round; use another `--neuron.name`."""
