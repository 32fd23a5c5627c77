"""The shaping's properties: shares that keep the miners' order; and what they are made from."""

from __future__ import annotations

import itertools
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ig_subnet.chain import AxonEndpoint, MetagraphSnapshot, NeuronSnapshot
from ig_subnet.validating.moving_average import Registration, average_of, update
from ig_subnet.validating.records import MinerRow
from ig_subnet.validating.uncertainty import limited_average_of
from ig_subnet.validating.weighting import Shaping, shape_weights, weigh

averages = st.dictionaries(st.integers(0, 255), st.floats(0, 1), max_size=30)
shapings = st.builds(
    Shaping,
    kind=st.sampled_from(["power", "softmax"]),
    exponent=st.floats(0.05, 50),
    temperature=st.floats(0.01, 10),
    floor=st.just(0.0) | st.floats(0, 0.9),
    burn=st.just(0.0) | st.floats(0, 0.9),
)
owners = st.none() | st.integers(0, 300)


@given(averages=averages, shaping=shapings, owner=owners)
def test_shares_are_positive_finite_and_sum_to_one(
    averages: dict[int, float], shaping: Shaping, owner: int | None
) -> None:
    shares = shape_weights(averages, shaping, owner)
    assert all(math.isfinite(share) and 0 < share <= 1 + 1e-9 for share in shares.values())
    assert shares.keys() <= averages.keys() | {owner}
    assert bool(shares) == any(average > shaping.floor for average in averages.values())
    if shares:
        assert math.fsum(shares.values()) == pytest.approx(1)


@given(averages=averages, shaping=shapings, owner=owners)
def test_a_higher_average_never_earns_less_and_equal_ones_earn_the_same(
    averages: dict[int, float], shaping: Shaping, owner: int | None
) -> None:
    shares = shape_weights(averages, shaping, owner)
    ranked = sorted(averages.keys() - {owner}, key=lambda uid: averages[uid])
    for lower, higher in itertools.pairwise(ranked):
        assert shares.get(lower, 0) <= shares.get(higher, 0)
        if averages[lower] == averages[higher]:
            assert shares.get(lower, 0) == shares.get(higher, 0)


@given(averages=averages, shaping=shapings)
def test_who_is_not_above_the_floor_earns_nothing(averages: dict[int, float], shaping: Shaping) -> None:
    shares = shape_weights(averages, shaping)
    assert not [uid for uid in shares if averages[uid] <= shaping.floor]


@given(averages=averages, shaping=shapings, owner=st.integers(256, 300))
def test_burning_takes_the_same_part_of_every_share(averages: dict[int, float], shaping: Shaping, owner: int) -> None:
    burnt, kept = shape_weights(averages, shaping, owner), shape_weights(averages, shaping)
    if kept:
        assert burnt.pop(owner, 0.0) == pytest.approx(shaping.burn)
    assert burnt == pytest.approx({uid: share * (1 - shaping.burn) for uid, share in kept.items()})


@given(averages=averages)
def test_an_exponent_of_one_pays_in_proportion(averages: dict[int, float]) -> None:
    total = math.fsum(averages.values())
    for uid, share in shape_weights(averages, Shaping(exponent=1)).items():
        assert share == pytest.approx(averages[uid] / total)


@given(averages=st.dictionaries(st.integers(0, 255), st.floats(0.01, 1), min_size=2), temperature=st.floats(0.1, 10))
def test_softmax_pays_by_the_difference(averages: dict[int, float], temperature: float) -> None:
    shares = shape_weights(averages, Shaping(kind="softmax", temperature=temperature))
    for one, other in itertools.pairwise(averages):
        ratio = math.exp((averages[one] - averages[other]) / temperature)
        assert shares[one] / shares[other] == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("shaping", "expected"),
    [
        (Shaping(floor=0.01), [0.513, 0.211, 0.214, 0.062, 0.000, 0, 0]),
        (Shaping(floor=0.01, exponent=1), [0.326, 0.242, 0.243, 0.161, 0.029, 0, 0]),
        (Shaping(floor=0.01, kind="softmax"), [0.778, 0.102, 0.105, 0.014, 0.001, 0, 0]),
        (Shaping(floor=0.3), [0.698, 0.146, 0.151, 0.006, 0, 0, 0]),
        (Shaping(floor=0.01, burn=0.2), [0.411, 0.168, 0.171, 0.049, 0.000, 0, 0.2]),
    ],
)
def test_the_worked_table_of_docs_weights_md(shaping: Shaping, expected: list[float]) -> None:
    """The second has an average of 0.8 too, after one observation."""
    newcomer = limited_average_of(update({}, {"a": Registration(2, 5)}, {"a": 0.8}, alpha=0.1)["a"], 0.1)
    assert newcomer == pytest.approx(0.597, abs=0.0006)
    shares = shape_weights({1: 0.8, 2: newcomer, 3: 0.6, 4: 0.4, 5: 0.08, 6: 0.009}, shaping, owner_uid=9)
    assert [shares.get(uid, 0.0) for uid in (1, 2, 3, 4, 5, 6, 9)] == pytest.approx(expected, abs=0.0006)


@pytest.mark.parametrize("averages", [{}, {1: 0.0}, {1: 0.0, 2: 0.0}, {1: 0.2, 2: 0.1}])
def test_nothing_is_said_where_there_is_nothing_to_say(averages: dict[int, float]) -> None:
    assert shape_weights(averages, Shaping(floor=0.2, burn=0.5), owner_uid=9) == {}


@pytest.mark.parametrize("kind", ["power", "softmax"])
def test_averages_near_zero_do_not_vanish_together(kind) -> None:
    assert shape_weights({1: 1e-200, 2: 1e-200}, Shaping(kind=kind, exponent=20)) == {1: 0.5, 2: 0.5}


@pytest.mark.parametrize("average", [float("nan"), float("inf"), -0.1])
def test_an_average_that_is_none_is_refused(average: float) -> None:
    with pytest.raises(ValueError, match="for uid 7"):
        shape_weights({1: 0.5, 7: average}, Shaping())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        *(("exponent", value, "exponent is positive") for value in (0, -1, math.nan, math.inf)),
        *(("temperature", value, "temperature is positive") for value in (0, -1, math.nan, math.inf)),
        *(("floor", value, r"floor is in \[0, 1\)") for value in (-0.1, 1, math.nan)),
        *(("burn", value, r"burn share is in \[0, 1\)") for value in (-0.1, 1, math.nan)),
    ],
)
def test_a_shaping_that_would_turn_the_order_around_is_refused(name: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Shaping(**{name: value})


# --- what is weighed


def metagraph(hotkeys: dict[str, int], owner: str | None = None) -> MetagraphSnapshot:
    """Everybody serves; by hotkey, the block of its registration."""
    neurons = tuple(
        NeuronSnapshot(
            *(uid, hotkey, "cold", 0.0, False, True, since, since, AxonEndpoint("192.0.2.1", 1)),
            *(0.0,) * 6,
        )
        for uid, (hotkey, since) in enumerate(hotkeys.items())
    )
    return MetagraphSnapshot(1, 100, neurons, owner)


def observed(**observations: float) -> dict[str, MinerRow]:
    """Miners observed 200 times, registered at block 5 with uids from 1 on."""
    miners: dict[str, MinerRow] = {}
    registrations = {hotkey: Registration(uid, 5) for uid, hotkey in enumerate(observations, start=1)}
    for _ in range(200):
        miners = update(miners, registrations, observations, alpha=0.1)
    return miners


EVERYBODY = {"me": 5, "a": 5, "b": 5, "c": 5}


def test_shares_follow_from_the_limited_averages_of_those_who_are_there() -> None:
    miners = observed(a=0.8, b=0.4, c=0.4)
    miners["c"] = update({}, {"c": Registration(3, 5)}, {"c": 0.4}, alpha=0.1)["c"]
    found = weigh(miners, metagraph(EVERYBODY), "me", alpha=0.1, shaping=Shaping(exponent=1))
    limited = limited_average_of(miners["c"], 0.1)
    assert found.shares == pytest.approx(
        {1: 0.8 / (1.2 + limited), 2: 0.4 / (1.2 + limited), 3: limited / (1.2 + limited)}
    )
    assert (found.silence, found.warnings) == ("", ())
    told = json.loads(found.basis)
    assert told["shaping"] == {"kind": "power", "exponent": 1, "temperature": 0.1, "floor": 0.0, "burn": 0.0}
    assert (told["alpha"], told["owner_uid"]) == (0.1, None)
    assert told["miners"][2] == ["c", 3, average_of(miners["c"]), limited, found.shares[3]]

    moved = metagraph({**EVERYBODY, "b": 77})
    assert weigh(miners, moved, "me", alpha=0.1, shaping=Shaping()).shares.keys() == {1, 3}, "b has registered again"


def test_nobody_gets_it_all_for_having_been_asked_first() -> None:
    first = weigh(observed(a=0.8), metagraph(EVERYBODY), "me", alpha=0.1, shaping=Shaping())
    assert (first.shares, first.silence) == ({}, "only 1 of the 3 miners that serve have been asked yet")
    assert [standing.share for standing in first.standings] == [0.0]
    both = weigh(observed(a=0.8, b=0.4), metagraph(EVERYBODY), "me", alpha=0.1, shaping=Shaping())
    assert both.shares.keys() == {1, 2}


def test_whoever_gets_it_all_does_not_get_it_unnoticed() -> None:
    alone = weigh(observed(a=0.8, b=0.0, c=0.0), metagraph(EVERYBODY), "me", alpha=0.1, shaping=Shaping())
    assert alone.shares == {1: 1.0}
    assert alone.warnings == ("uid 1 alone is paid: the other 2 miners have earned nothing",)
    only = weigh(observed(a=0.8), metagraph({"me": 5, "a": 5}), "me", alpha=0.1, shaping=Shaping())
    assert (only.shares, only.warnings) == ({1: 1.0}, ())


def test_what_slips_through_once_does_not_get_it_all() -> None:
    """A gate let one image pass with the smallest incentive there is, and nobody else has earned anything."""
    slipped = weigh(observed(a=1e-6, b=0.0, c=0.0), metagraph(EVERYBODY), "me", alpha=0.1, shaping=Shaping(floor=0.01))
    assert (slipped.shares, slipped.silence) == ({}, "no miner stands above 0.01")


def test_where_nobody_has_earned_nothing_is_burnt_either() -> None:
    found = weigh(
        observed(a=0.0, b=0.0, c=0.0), metagraph(EVERYBODY, owner="me"), "me", alpha=0.1, shaping=Shaping(burn=0.5)
    )
    assert (found.shares, found.silence) == ({}, "no miner has earned anything yet")


def test_what_is_burnt_goes_to_the_owner_while_it_has_a_uid() -> None:
    miners, shaping = observed(a=0.8, b=0.8, c=0.8), Shaping(burn=0.25)
    burnt = weigh(miners, metagraph(EVERYBODY, owner="me"), "me", alpha=0.1, shaping=shaping)
    assert burnt.shares == pytest.approx({0: 0.25, 1: 0.25, 2: 0.25, 3: 0.25})
    assert (burnt.owner_uid, burnt.warnings) == (0, ())
    kept = weigh(miners, metagraph(EVERYBODY, owner="gone"), "me", alpha=0.1, shaping=shaping)
    assert kept.shares == pytest.approx({1: 1 / 3, 2: 1 / 3, 3: 1 / 3})
    assert kept.warnings == ("nothing is burnt: the subnet's owner has no uid",)
