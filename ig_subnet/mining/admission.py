"""Who may query this miner, and who goes first: decided from the newest snapshot of the metagraph."""

from __future__ import annotations

import time
from collections.abc import Callable

from ig_subnet.chain import MetagraphSnapshot, NeuronSnapshot
from ig_subnet.config.settings import BlacklistSettings
from protocol import Refusal

MAX_SNAPSHOT_AGE_SECONDS = 72 * 60.0  # one tempo: permits change at an epoch, so an older snapshot is a wrong one


class Admission:
    """The caller policy and the priority of an axon. Without a snapshot, or with one too old, nobody is known."""

    def __init__(self, rules: BlacklistSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rules = rules
        self._clock = clock
        self._snapshot: MetagraphSnapshot | None = None
        self._taken_at = 0.0

    def update(self, snapshot: MetagraphSnapshot) -> None:
        """Decide by `snapshot`, taken now."""
        self._snapshot = snapshot
        self._taken_at = self._clock()

    def refuse(self, hotkey: str) -> Refusal | None:
        """Why the caller with this ss58 address is turned away; None lets it in. Costs three look-ups."""
        rules = self._rules
        if hotkey in rules.hotkeys:
            return Refusal.BLACKLISTED
        if hotkey in rules.allow_hotkeys:
            return None
        neuron = self._known(hotkey)
        if neuron is None and not rules.allow_non_registered:
            return Refusal.NOT_REGISTERED
        if rules.force_validator_permit and not (neuron and neuron.validator_permit):
            return Refusal.NO_PERMIT
        if self.priority(hotkey) < rules.min_stake:
            return Refusal.TOO_LITTLE_STAKE
        return None

    def priority(self, hotkey: str) -> float:
        """The caller's stake in TAO; 0 for a stranger. Higher goes first."""
        neuron = self._known(hotkey)
        return neuron.stake if neuron else 0.0

    def _known(self, hotkey: str) -> NeuronSnapshot | None:
        if self._snapshot is None or self._clock() - self._taken_at > MAX_SNAPSHOT_AGE_SECONDS:
            return None
        return self._snapshot.by_hotkey(hotkey)
