"""The draws: nobody foresees them, everybody has the same chance, and a seed repeats them."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from ig_subnet.chain import AxonEndpoint, MetagraphSnapshot, NeuronSnapshot
from ig_subnet.validating.sampling import (
    PATIENCE,
    choose_miners,
    derived_seed,
    miner_seed,
    miners_of,
    round_secret,
)
from protocol import Target

hotkeys = st.lists(st.text("abcdef", min_size=1, max_size=4), max_size=30)
secrets = st.binary(min_size=32, max_size=32)


last_rounds = st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.integers(1, 99), max_size=30)


@given(hotkeys=hotkeys, size=st.integers(1, 40), secret=secrets, last=last_rounds)
def test_a_sample_is_of_the_size_asked_and_without_repeats(
    hotkeys: list[str], size: int, secret: bytes, last: dict[str, int]
) -> None:
    chosen = choose_miners(hotkeys, size, secret, round_id=100, last_asked=last)
    assert len(chosen) == len(set(chosen)) == min(size, len(set(hotkeys)))
    assert set(chosen) <= set(hotkeys)
    assert set(choose_miners(hotkeys, None, secret, round_id=100, last_asked=last)) == set(hotkeys)


@given(
    hotkeys=hotkeys,
    size=st.integers(1, 40),
    secret=secrets,
    last=last_rounds,
    shuffle=st.randoms(use_true_random=False),
)
def test_neither_order_nor_repetition_changes_a_sample(
    hotkeys: list[str], size: int, secret: bytes, last: dict[str, int], shuffle
) -> None:
    other = hotkeys * 2
    shuffle.shuffle(other)
    assert choose_miners(other, size, secret, round_id=100, last_asked=last) == choose_miners(
        hotkeys, size, secret, round_id=100, last_asked=last
    )


def rounds_of(miners: int, size: int, rounds: int, seed: int) -> list[list[str]]:
    """Who is asked in one round after the other."""
    hotkeys, last_asked, samples = [f"miner {number}" for number in range(miners)], {}, []
    for round_id in range(1, rounds + 1):
        secret = round_secret(seed, round_id, round_id)
        samples.append(choose_miners(hotkeys, size, secret, round_id=round_id, last_asked=last_asked))
        last_asked |= dict.fromkeys(samples[-1], round_id)
    return samples


@settings(max_examples=40)
@given(miners=st.integers(1, 40), size=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_nobody_waits_longer_than_it_is_promised_and_newcomers_come_first(miners: int, size: int, seed: int) -> None:
    turn = math.ceil(miners / size)
    last: dict[str, int] = {}
    for round_id, sample in enumerate(rounds_of(miners, size, 12 * turn, seed), start=1):
        assert all(round_id - last.get(hotkey, 0) <= (PATIENCE + 1) * turn for hotkey in sample)
        last |= dict.fromkeys(sample, round_id)
        assert len(last) == min(miners, size * round_id), "everyone once before anyone twice"
    assert all(12 * turn - seen <= (PATIENCE + 1) * turn for seen in last.values())


def test_every_miner_is_asked_equally_often_and_having_been_asked_tells_nothing() -> None:
    """1,600 of 4,000 draws a miner are expected; five standard deviations are 155."""
    samples = rounds_of(10, 4, 4_000, seed=1)
    counts = Counter(hotkey for sample in samples for hotkey in sample)
    assert len(counts) == 10 and all(abs(count - 1600) < 155 for count in counts.values())
    again = [hotkey in later for sample, later in itertools.pairwise(samples) for hotkey in sample]
    assert abs(sum(again) / len(again) - 0.4) < 0.02, "no rest after a query"


@given(secret=secrets, hotkey=st.text("abc", min_size=1), position=st.integers(0, 63))
def test_seeds_fit_the_wire_and_differ(secret: bytes, hotkey: str, position: int) -> None:
    seed = miner_seed(secret, hotkey, position)
    assert 0 <= seed < 2**32
    assert seed == miner_seed(secret, hotkey, position)
    assert seed != miner_seed(secret, hotkey, position + 1)
    assert seed != miner_seed(secret, hotkey + "a", position)
    assert seed != miner_seed(secret[::-1] + b"x", hotkey, position)


def test_a_fresh_secret_is_new_each_time_and_a_seeded_one_repeats() -> None:
    assert round_secret(None, 1, 1) != round_secret(None, 1, 1)
    assert round_secret(7, 1, 1) == round_secret(7, 1, 1)
    others = [(7, 1, 1), (7, 2, 1), (7, 1, 2), (8, 1, 1), (71, 1, 1)]  # a round planned anew is another one
    assert len({round_secret(*which) for which in others}) == len(others)
    secret = round_secret(7, 1, 1)
    assert derived_seed(secret, "prompts") == derived_seed(secret, "prompts")
    assert len({secret, derived_seed(secret, "prompts"), derived_seed(secret, "topic")}) == 3


def neuron(uid: int, **fields: object) -> NeuronSnapshot:
    plain = NeuronSnapshot(
        uid=uid,
        hotkey=f"hotkey {uid}",
        coldkey="coldkey",
        stake=0.0,
        validator_permit=False,
        active=True,
        last_update=5,
        registered_at=5,
        axon=AxonEndpoint("192.0.2.1", 8091),
        **dict.fromkeys(("incentive", "dividends", "emission", "consensus", "trust", "validator_trust"), 0.0),
    )
    return replace(plain, **fields)


def test_everyone_who_serves_and_does_not_validate_is_asked() -> None:
    neurons = (
        neuron(0),
        neuron(1, hotkey="me"),
        neuron(2, axon=None),
        neuron(3, validator_permit=True, last_update=90),
        neuron(4, validator_permit=True),  # a permit that came with stake
        neuron(5, axon=None, hotkey="withdrawn"),
        neuron(6, validator_permit=True, last_update=90, hotkey="miner that set weights"),
    )
    miners = miners_of(MetagraphSnapshot(1, 100, neurons), "me", {"withdrawn", "miner that set weights", "gone"})
    assert {miner.uid: miner.target is not None for miner in miners.values()} == {0: True, 4: True, 5: False, 6: True}
    assert miners["hotkey 0"].target == Target("hotkey 0", "192.0.2.1", 8091)
