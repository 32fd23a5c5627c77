"""The draws: nobody foresees them, everybody has the same chance, and a seed repeats them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ig_subnet.chain import AxonEndpoint, MetagraphSnapshot, NeuronSnapshot
from ig_subnet.validating.sampling import choose_miners, derived_seed, miner_seed, miners_of, round_secret
from protocol import Target

hotkeys = st.lists(st.text("abcdef", min_size=1, max_size=4), max_size=30)
secrets = st.binary(min_size=32, max_size=32)


@given(hotkeys=hotkeys, size=st.integers(1, 40), secret=secrets)
def test_a_sample_is_of_the_size_asked_and_without_repeats(hotkeys: list[str], size: int, secret: bytes) -> None:
    chosen = choose_miners(hotkeys, size, secret)
    assert len(chosen) == len(set(chosen)) == min(size, len(set(hotkeys)))
    assert set(chosen) <= set(hotkeys)
    assert set(choose_miners(hotkeys, None, secret)) == set(hotkeys)


@given(hotkeys=hotkeys, size=st.integers(1, 40), secret=secrets, shuffle=st.randoms(use_true_random=False))
def test_neither_order_nor_repetition_changes_a_sample(hotkeys: list[str], size: int, secret: bytes, shuffle) -> None:
    other = hotkeys * 2
    shuffle.shuffle(other)
    assert choose_miners(other, size, secret) == choose_miners(hotkeys, size, secret)


def test_every_miner_is_asked_equally_often() -> None:
    """4,800 of 12,000 draws a miner are expected; five standard deviations are 268."""
    miners = [f"miner {number}" for number in range(10)]
    counts = Counter(
        chosen for number in range(12_000) for chosen in choose_miners(miners, 4, round_secret(1, number, number))
    )
    assert all(abs(counts[miner] - 4800) < 268 for miner in miners)


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
