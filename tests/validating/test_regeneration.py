"""Verification by re-generation: what is made again, what it finds out, what it costs, and what it never costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loguru import logger
from numpy.typing import NDArray
from PIL import Image

from ig_subnet.imaging import fingerprint
from ig_subnet.validating.errors import ProfileUnusable
from ig_subnet.validating.gate_settings import GateSettings
from ig_subnet.validating.gates import Declared, ImageKey, Proofs, Verdict
from ig_subnet.validating.records import COPY, VALID
from ig_subnet.validating.regeneration import DISTRUSTED_ROUNDS, Regenerator, by_turns, drawn
from protocol import Declaration

SIZE = 16
SECRET = b"s" * 32
PROMPT = "a red circle"
DUPLICATES = {
    "hash_distance": 4,
    "laid_over": 2,
    "times_nearer": 9,
    "expert": "eye",
    "cosine": 0.99,
    "history": 10,
    "provenance": "made up",
}
LEVELS = 2.0
MEASURED = {"models": {"painter": {"cosine": 0.99, "levels": LEVELS, "provenance": "made up"}}}


class Painter:
    """Pixels that follow from prompt, seed and settings, blurrier the fewer the steps; a step takes a second."""

    name = "painter"

    def __init__(self, guidance: float = 3.0, seconds: Callable[[float], None] = lambda seconds: None) -> None:
        self.guidance = guidance
        self.spend = seconds
        self.made: list[tuple[str, int, int]] = []

    def as_declared(self, declaration: Declaration) -> Painter:
        if declaration.scheduler == "magic":
            raise ValueError("there is no scheduler magic")
        other = Painter(self.guidance if declaration.guidance is None else declaration.guidance, self.spend)
        other.made = self.made
        return other

    def generate(
        self, prompt: str, negative_prompt: str, width: int, height: int, seeds: Sequence[int], steps: int
    ) -> list[Image.Image | None]:
        self.spend(steps * len(seeds))
        self.made += [(prompt, seed, steps) for seed in seeds]
        if (width, height) != (SIZE, SIZE):
            raise ValueError(f"not {width} x {height}")
        return [None if seed == 666 else self._one(prompt, seed, steps) for seed in seeds]

    def _one(self, prompt: str, seed: int, steps: int) -> Image.Image:
        rng = np.random.default_rng([*prompt.encode(), seed, steps, int(self.guidance * 10)])
        return Image.fromarray(rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8))


class EyeOnADevice:
    """Embeds images as their pixels, less the mean."""

    def __init__(self, gates: dict[str, object]) -> None:
        self.gates = GateSettings.parse(gates, "made up")

    async def run(self, function, *args):
        return await asyncio.to_thread(function, *args)

    async def embed(self, images: Sequence[NDArray[np.uint8]], expert: str) -> NDArray[np.float32]:
        assert expert == "eye"
        return np.stack([embedding_of(image) for image in images])


def embedding_of(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    flat = image.astype(np.float32).ravel() - 127.5
    return flat / np.linalg.norm(flat)


class Clock:
    """Seconds that pass only where they are spent."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def spend(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def painter(clock: Clock) -> Painter:
    return Painter(seconds=clock.spend)


@pytest.fixture
async def regenerator(painter: Painter, clock: Clock) -> AsyncIterator[Regenerator]:
    yield await loaded(painter, clock)


async def loaded(
    painter: Painter,
    clock: Clock,
    share: float = 1.0,
    seconds: float = 1000.0,
    distrusted: Mapping[str, int] | None = None,
) -> Regenerator:
    device = EyeOnADevice({"duplicates": DUPLICATES, "regeneration": MEASURED})
    regenerator = Regenerator(
        device, width=SIZE, height=SIZE, share=share, seconds=seconds, distrusted=distrusted, clock=clock
    )
    await regenerator.load(lambda: painter)
    painter.made.clear()
    return regenerator


def image(
    model: str = "painter steps:20",
    hotkey: str = "alice",
    *,
    position: int = 0,
    number: int = 0,
    seed: int = 7,
    made_by: Painter | None = None,
    made_from: int | None = None,
    steps: int = 20,
) -> Declared:
    """An image that declares `model` and `seed`; made in `steps` by the painter from it, unless told otherwise."""
    picture = (made_by or Painter())._one(PROMPT, seed if made_from is None else made_from, steps)
    key = ImageKey(position, hotkey, number)
    pixels = np.asarray(picture)
    return Declared(key, PROMPT, seed, frozenset({7, 8}), model, fingerprint(pixels), embedding_of(pixels))


ALICE = ImageKey(0, "alice", 0)


async def verified(
    regenerator: Regenerator, images: Sequence[Declared], suspects: Iterable[ImageKey] = (), round_id: int = 1
) -> Proofs:
    """What is proven of images that nobody takes for copies, but for the `suspects`."""
    suspects = set(suspects)

    async def judge(proofs: Proofs, suspected: AbstractSet[ImageKey]) -> Mapping[ImageKey, Verdict]:
        return {one.key: Verdict(COPY if one.key in suspected & suspects else VALID) for one in images}

    return await regenerator(round_id, images, SECRET, judge)


async def test_an_image_that_is_what_it_declares_matches(regenerator: Regenerator, painter: Painter) -> None:
    proofs = await verified(regenerator, [image()])
    assert painter.made == [(PROMPT, 7, 20)]
    check = proofs.checks[ALICE]
    assert (check.matches, check.number, check.model, check.threshold) == (True, 0, "painter steps:20", 0.99)
    assert check.cosine == pytest.approx(1)
    assert proofs.unproven == set()


async def test_declared_settings_are_used(regenerator: Regenerator) -> None:
    honest = image("painter steps:9 guidance:1.5", made_by=Painter(1.5), steps=9)
    assert (await verified(regenerator, [honest])).checks[ALICE].matches


@pytest.mark.parametrize(
    "false",
    [
        image(made_from=9),
        image(steps=4),
        image("painter steps:20 guidance:5"),
        image(made_by=Painter(1.0)),
    ],
    ids=["seed", "steps", "guidance", "model"],
)
async def test_a_false_declaration_does_not_match(false: Declared, regenerator: Regenerator) -> None:
    check = (await verified(regenerator, [false])).checks[ALICE]
    assert not check.matches
    assert check.cosine is not None and check.cosine < 0.9


async def test_an_image_that_only_its_embedding_takes_for_what_it_declares_does_not_match(
    regenerator: Regenerator,
) -> None:
    """As one that was changed for other experts than the one that compares."""
    honest, other = image(), image(made_from=9)
    check = (await verified(regenerator, [replace(honest, phash=other.phash)])).checks[ALICE]
    assert check.cosine == pytest.approx(1) and check.levels is not None and check.levels > LEVELS
    assert not check.matches


async def test_a_seed_that_was_not_asked_for_does_not_match_and_nothing_is_made(
    regenerator: Regenerator, painter: Painter
) -> None:
    check = (await verified(regenerator, [image(seed=9)])).checks[ALICE]
    assert (check.matches, check.cosine, painter.made) == (False, None, [])


@pytest.mark.parametrize(
    "nothing",
    [
        "",
        "painter",  # as every miner of an earlier version says it
        "painter guidance:3",
        "another/model steps:20",
        "painter steps:20 lora:mine",
        "painter steps:20 scheduler:magic",  # cannot be run
        "painter steps:9999",  # would take all of a round, and more
        "the painter in 20 steps",
    ],
)
async def test_what_cannot_be_made_again_is_unproven_and_no_lie(nothing: str, regenerator: Regenerator) -> None:
    for round_id in (1, 2):
        proofs = await verified(regenerator, [image(nothing, made_from=99)], round_id=round_id)
        assert (proofs.checks, proofs.unproven) == ({}, {ALICE})
    assert (await verified(regenerator, [image()], round_id=3)).checks[ALICE].matches


async def test_an_image_that_the_models_checker_withholds_is_unproven(regenerator: Regenerator) -> None:
    withheld = replace(image(), seed=666, asked=frozenset({666}))
    proofs = await verified(regenerator, [withheld])
    assert (proofs.checks, proofs.unproven) == ({}, {ALICE})


def many(number: int, **told: Any) -> list[Declared]:
    return [image(hotkey=f"miner {index}", **told) for index in range(number)]


async def test_what_a_round_may_take_is_bounded(painter: Painter, clock: Clock) -> None:
    regenerator = await loaded(painter, clock, seconds=90)
    for round_id in (1, 2):
        began = clock.now
        proofs = await verified(regenerator, many(10), round_id=round_id)
        assert len(proofs.checks) == 4 and clock.now - began == 80
        assert proofs.unproven == set()  # it is not their fault


async def test_suspects_are_made_again_first_and_one_of_each_miner_before_a_second_one(
    painter: Painter, clock: Clock
) -> None:
    regenerator = await loaded(painter, clock, share=1e-9, seconds=90)
    several = [image(number=number, seed=7 + number % 2) for number in range(8)]
    others = many(20)
    wanted = {one.key for one in [*several, others[3], others[5]]}
    proofs = await verified(regenerator, [*others, *several], suspects=wanted)
    assert proofs.checks.keys() <= wanted and len(proofs.checks) == 4
    assert {others[3].key, others[5].key} <= proofs.checks.keys()


async def test_suspects_are_made_again_whatever_the_share(painter: Painter, clock: Clock) -> None:
    regenerator = await loaded(painter, clock, share=1e-9)
    proofs = await verified(regenerator, [*many(3), image()], suspects=[ALICE])
    assert proofs.checks.keys() == {ALICE}


async def test_what_looks_like_one_that_was_acquitted_is_suspected_next(painter: Painter, clock: Clock) -> None:
    regenerator = await loaded(painter, clock, share=1e-9)
    first, second, third = images = many(3)
    asked: list[set[ImageKey]] = []

    async def judge(proofs: Proofs, suspected: AbstractSet[ImageKey]) -> Mapping[ImageKey, Verdict]:
        asked.append(set(suspected))
        like = first.key if first.key not in proofs.checks else second.key
        return {one.key: Verdict(COPY if one.key == like and like in suspected else VALID) for one in images}

    proofs = await regenerator(1, images, SECRET, judge)
    assert asked == [{first.key, second.key, third.key}, {second.key, third.key}, {third.key}]
    assert proofs.checks.keys() == {first.key, second.key}


async def test_who_lies_is_made_again_once_a_round_and_believed_nothing_for_a_time(
    painter: Painter, clock: Clock
) -> None:
    regenerator = await loaded(painter, clock)
    lies = [image(position=position, made_from=9) for position in range(5)]
    keys = {one.key for one in lies}
    proofs = await verified(regenerator, [*lies, *many(1)], suspects=keys)
    (check,) = (proofs.checks[key] for key in keys & proofs.checks.keys())
    assert not check.matches
    assert proofs.unproven == keys - proofs.checks.keys()
    for round_id in range(DISTRUSTED_ROUNDS):
        await verified(regenerator, many(1), round_id=100 * round_id)  # rounds of others do not count
        later = await verified(regenerator, [image(), *many(1)], suspects=[ALICE], round_id=100 * round_id + 1)
        assert ALICE in later.unproven and len(later.checks) == 1
    assert ALICE in (await verified(regenerator, [image()], round_id=9999)).checks


async def test_who_is_on_record_for_a_lie_is_not_believed(painter: Painter, clock: Clock) -> None:
    regenerator = await loaded(painter, clock, distrusted={"alice": 2})
    for round_id, unproven in ((4, {ALICE}), (5, {ALICE}), (6, set())):
        assert (await verified(regenerator, [image()], round_id=round_id)).unproven == unproven


async def test_a_suspicion_that_somebody_provokes_shields_nothing_from_being_drawn(
    painter: Painter, clock: Clock
) -> None:
    """An honest image that always looks suspicious, beside a lie in the same answer; and others that take the time."""
    regenerator = await loaded(painter, clock, share=0.5, seconds=200)
    shield, lie = image(), image(number=1, seed=8, made_from=9)
    decoys = many(20, model="painter steps:50", steps=50)
    suspects = [shield.key, *(one.key for one in decoys)]
    found = 0
    for round_id in range(40):
        proofs = await verified(regenerator, [shield, lie, *decoys], suspects=suspects, round_id=round_id)
        found += lie.key in proofs.checks
        regenerator._distrusted.clear()
    assert found > 0


async def test_what_an_image_costs_is_known_by_its_steps_and_scheduler_whoever_asks(
    painter: Painter, clock: Clock
) -> None:
    """A model whose images take ten seconds before the first step: few steps must not make many seem dear, or cheap."""
    spend = painter.spend
    painter.spend = lambda seconds: spend(10 + seconds)
    regenerator = await loaded(painter, clock, seconds=200)
    quick = many(20, model="painter steps:1", steps=1)
    for round_id in range(3):
        await verified(regenerator, quick, round_id=round_id)
    assert (await verified(regenerator, [image("painter steps:40", steps=40)])).checks[ALICE].matches
    for costly in ("painter steps:41", "painter steps:21 scheduler:heun"):
        assert (await verified(regenerator, [image(costly)])).unproven == {ALICE}


async def test_a_device_that_makes_nothing_any_more_is_no_miners_fault(regenerator: Regenerator) -> None:
    def broken(seconds: float) -> None:
        raise RuntimeError("out of memory")

    painter = regenerator._references["painter"].model
    assert isinstance(painter, Painter)
    painter.spend = broken
    with pytest.raises(RuntimeError, match="out of memory"):
        await verified(regenerator, [image()])


async def test_nobody_can_use_up_the_time_by_declaring_many_steps(painter: Painter, clock: Clock) -> None:
    regenerator = await loaded(painter, clock, seconds=100)
    costly = many(10, model="painter steps:26", steps=26)  # more than a quarter of the time each
    proofs = await verified(regenerator, [*costly, image()], suspects=[one.key for one in costly])
    assert proofs.checks.keys() == {ALICE}
    assert proofs.unproven == {one.key for one in costly}


async def test_a_busy_device_makes_nobody_a_suspect(painter: Painter, clock: Clock) -> None:
    regenerator = await loaded(painter, clock, seconds=100)
    painter.spend = lambda seconds: clock.spend(9 * seconds)
    proofs = await verified(regenerator, many(5))
    assert len(proofs.checks) == 1
    assert (await verified(regenerator, many(5), round_id=2)).unproven == set()


async def test_a_declaration_that_cannot_be_run_is_told(regenerator: Regenerator) -> None:
    lines: list[str] = []
    sink = logger.add(lines.append, format="{level} {message}")
    await verified(regenerator, [image("painter steps:20 scheduler:magic")])
    logger.remove(sink)
    assert lines == [
        "WARNING cannot make an image as declared, painter steps:20 scheduler:magic: ValueError: "
        "there is no scheduler magic\n"
    ]


@settings(deadline=None)
@given(
    told=st.lists(
        st.tuples(
            st.sampled_from("abcdef"),
            st.integers(0, 2),
            st.sampled_from(["painter steps:20", "painter steps:8", "painter steps:60", "painter", "magic steps:3"]),
            st.booleans(),
            st.booleans(),
        ),
        max_size=20,
        unique_by=lambda one: one[:2],
    ),
    seconds=st.floats(1, 400),
)
def test_whatever_is_declared_time_is_kept_and_who_tells_the_truth_is_believed(
    told: list[tuple[str, int, str, bool, bool]], seconds: float
) -> None:
    """Hotkey, prompt, declaration, whether that is true, and whether the image is a suspect, of each."""
    clock = Clock()
    painter = Painter(seconds=clock.spend)
    images = []
    for hotkey, position, model, true, _ in told:
        found = Declaration.parse(model)
        steps = 20 if found is None or found.steps is None else found.steps
        images.append(image(model, hotkey, position=position, steps=steps, made_from=None if true else 9))
    suspects = [one.key for one, (*_, suspect) in zip(images, told, strict=True) if suspect]

    async def played() -> Proofs:
        regenerator = await loaded(painter, clock, seconds=seconds)
        began = clock.now
        proofs = await verified(regenerator, images, suspects)
        assert clock.now - began <= seconds
        return proofs

    proofs = asyncio.run(played())
    liars = {one.key.hotkey for one, (_, _, _, true, _) in zip(images, told, strict=True) if not true}
    for one, (hotkey, _, model, true, _) in zip(images, told, strict=True):
        check = proofs.checks.get(one.key)
        assert check is None or check.matches == true
        assert not (check and one.key in proofs.unproven)
        if not model.startswith("painter steps"):
            assert one.key in proofs.unproven
        elif hotkey not in liars and model in ("painter steps:20", "painter steps:8") and seconds >= 80:
            assert one.key not in proofs.unproven


# --- what is drawn


@given(
    answers=st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.integers(1, 4), max_size=30),
    share=st.floats(0.01, 1),
    seed=st.binary(min_size=32, max_size=32),
)
def test_orders_and_draws_do_not_depend_on_how_images_are_listed(
    answers: dict[str, int], share: float, seed: bytes
) -> None:
    images = [image(hotkey=hotkey, number=number) for hotkey, count in answers.items() for number in range(count)]
    another = sorted(images, key=lambda one: (one.key.hotkey[::-1], one.key.number))
    chosen = drawn(images, share, seed)
    assert len({one.key.hotkey for one in chosen}) == len(chosen) <= len(answers)
    assert keys(drawn(another, share, seed)) == keys(chosen)
    assert share < 1 or len(chosen) == len(answers)
    order = by_turns(images, seed)
    assert keys(by_turns(another, seed)) == keys(order)
    assert sorted(keys(order)) == sorted(keys(images))
    assert len({one.key.hotkey for one in order[: len(answers)]}) == len(answers)


def keys(images: Iterable[Declared]) -> list[ImageKey]:
    return [one.key for one in images]


def test_every_answer_and_every_image_has_the_same_chance() -> None:
    images = [image(hotkey=hotkey, number=number) for hotkey in "abcd" for number in range(2)]
    drawings = [keys(drawn(images, 0.25, number.to_bytes(32, "big"))) for number in range(2000)]
    for one in images:
        times = sum(one.key in drawing for drawing in drawings)
        assert 190 < times < 310  # 250 are expected; five deviations of 15


# --- what cannot be loaded


@pytest.mark.parametrize(
    "gates",
    [
        {},
        {"duplicates": DUPLICATES},
        {"regeneration": MEASURED},
        {"duplicates": DUPLICATES, "regeneration": {"models": {"pocket": MEASURED["models"]["painter"]}}},
    ],
)
async def test_a_model_that_nobody_has_measured_is_named(gates: dict[str, object]) -> None:
    regenerator = Regenerator(EyeOnADevice(gates), width=SIZE, height=SIZE, share=1, seconds=1)
    with pytest.raises(ProfileUnusable, match=r"images of painter cannot be verified: .*calibrate_regeneration"):
        await regenerator.load(Painter)


async def test_a_size_that_the_model_does_not_make_ends_the_start() -> None:
    device = EyeOnADevice({"duplicates": DUPLICATES, "regeneration": MEASURED})
    regenerator = Regenerator(device, width=64, height=64, share=1, seconds=1)
    with pytest.raises(ValueError, match="not 64 x 64"):
        await regenerator.load(Painter)
