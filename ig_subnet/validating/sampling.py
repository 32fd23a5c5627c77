"""Who is asked what: draws that nobody can foresee and everybody gets fairly, all from one secret a round.

The secret is drawn when the round is planned, and leaves the validator when it is over (see `commitments`). With a
`--neuron.seed` it is derived from the seed and the round's number instead, so that a run can be repeated: that is for
experiments, since it can be foreseen.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from ig_subnet.chain.interface import MetagraphSnapshot, NeuronSnapshot
from protocol import Target

PATIENCE = 4  # turns: so long after the last time a miner waits at most; 1 in 55 waits longer by chance alone (exp(-4))


@dataclass(frozen=True)
class Miner:
    """A miner to ask; `target` is None where it has withdrawn its axon, and then it stays silent."""

    hotkey: str
    uid: int
    target: Target | None


def round_secret(seed: int | None, round_id: int, commitment: int) -> bytes:
    """32 bytes: fresh ones, or with a `seed` always the same ones for the same seed, round and number of its plan."""
    return secrets.token_bytes(32) if seed is None else _digest(b"round", str(seed), round_id, commitment)


def miners_of(metagraph: MetagraphSnapshot, own_hotkey: str, observed: Container[str]) -> dict[str, Miner]:
    """Who can be asked, keyed by hotkey: everyone but this validator that serves an axon and does not validate itself.

    Who was `observed` before is asked in any case, so that neither setting weights nor withdrawing freezes an average.
    """
    miners = {}
    for neuron in metagraph.neurons:
        serves = neuron.axon is not None and not validates(neuron)
        if neuron.hotkey != own_hotkey and (serves or neuron.hotkey in observed):
            target = Target(neuron.hotkey, neuron.axon.ip, neuron.axon.port) if neuron.axon is not None else None
            miners[neuron.hotkey] = Miner(neuron.hotkey, neuron.uid, target)
    return miners


def validates(neuron: NeuronSnapshot) -> bool:
    """Whether it is a validator: a permit alone makes none, since miners earn one with stake; setting weights does."""
    return neuron.validator_permit and neuron.last_update > neuron.registered_at


def choose_miners(
    hotkeys: Iterable[str], size: int | None, secret: bytes, *, round_id: int, last_asked: Mapping[str, int]
) -> list[str]:
    """`size` of the hotkeys for this round; all of them, shuffled, for None or where there are fewer.

    Each has the same chance, whenever it was asked last, so that nobody who was just asked can rest. But those who were
    never asked come before all others, and then those whose `last_asked` round is `PATIENCE` turns ago (a turn is the
    rounds that it takes to ask everyone once), longest first: so nobody waits more than `PATIENCE` + 1 turns for
    as long as the miners are the same. The order of the input and how often a hotkey is in it do not matter.
    """
    shuffled = sorted(set(hotkeys), key=lambda hotkey: _digest(secret, "miner", hotkey))
    if size is None or size >= len(shuffled):
        return shuffled
    longest = PATIENCE * math.ceil(len(shuffled) / size)

    def last_if_overdue(hotkey: str) -> float:
        last = last_asked.get(hotkey, 0)
        return last if round_id - last >= longest or not last else math.inf

    return sorted(shuffled, key=last_if_overdue)[:size]  # a stable order: the others stay shuffled


def miner_seed(secret: bytes, hotkey: str, position: int) -> int:
    """The seed, in [0, 2**32), from which this miner is to generate its answer to the prompt at `position`."""
    return int.from_bytes(_digest(secret, "seed", hotkey, position)[:4], "big")


def derived_seed(secret: bytes, purpose: str) -> bytes:
    """32 bytes for the other draws of a round, which tell nothing of the secret."""
    return _digest(secret, "random", purpose)


def _digest(key: bytes, *parts: str | int) -> bytes:
    """BLAKE2b of the parts, keyed, with separators that no part contains."""
    return hashlib.blake2b("\0".join(map(str, parts)).encode(), key=key, digest_size=32).digest()
