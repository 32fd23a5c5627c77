"""What the gates make of a round: of each case alone, and of any round at all."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_images import DUPLICATES, GATES, PICTURES, embedding_of, examined

from ig_subnet.validating.errors import ProfileUnusable
from ig_subnet.validating.gate_settings import GateSettings, RegenerationGate, Suspicion, VerifiedModel
from ig_subnet.validating.gates import Check, Examined, ImageKey, Likeness, Proofs, Verdict, judge
from ig_subnet.validating.likeness import FEWEST_RIVALS, Alike, is_alike, times_nearer
from ig_subnet.validating.records import (
    COPY,
    DUPLICATE,
    IGNORES_PROMPT,
    NO_SCORE,
    NOT_REGENERATED,
    NOT_SAFE,
    OTHER_PROMPT,
    SEEN_BEFORE,
    VALID,
)

OLD = ImageKey(3, "bob", 1)


def reasons(images: list[Examined], gates: GateSettings = GATES, **known: object) -> list[str]:
    verdicts = judge(images, gates, round_id=9, **known)  # type: ignore[arg-type]
    return [verdicts[image.key].reason for image in images]


def seen(prompt: str) -> dict[ImageKey, Likeness]:
    """That alice's first image was there in round 4, for a prompt."""
    return {ImageKey(0, "alice", 0): Likeness(4, OLD, prompt, Alike(0, 3, 0.98))}


def test_each_gate_has_its_reason() -> None:
    assert reasons([examined()]) == [VALID]
    assert reasons([replace(examined(), refused="not a png file", findings=None)]) == ["not a png file"]
    assert reasons([replace(examined(), findings=None)]) == [NO_SCORE]
    assert reasons([examined(unsafe=0.8)]) == [NOT_SAFE]
    assert reasons([examined(), examined(number=1)]) == [VALID, DUPLICATE]
    assert reasons([examined(), examined("bob", arrived=2.0)]) == [VALID, COPY]
    assert reasons([examined()], seen=seen("prompt 0")) == [SEEN_BEFORE]
    assert reasons([examined()], seen=seen("another")) == [OTHER_PROMPT]
    assert reasons([examined(), examined("bob", position=1, arrived=0.5)]) == [VALID, OTHER_PROMPT]
    assert reasons([examined(alignment=0.9)]) == [IGNORES_PROMPT]


def test_the_earliest_of_equal_images_keeps_its_pay() -> None:
    late, early, later = examined("alice", arrived=2.0), examined("bob", arrived=0.5), examined("carol", arrived=3.0)
    verdicts = judge([late, early, later], GATES, round_id=9)
    assert verdicts[early.key] == Verdict(VALID)
    assert [verdicts[image.key].reason for image in (late, later)] == [COPY, COPY]
    evidence = verdicts[late.key].evidence
    assert evidence == {"like": {"round_id": 9, "position": 0, "hotkey": "bob", "number": 0}, "bits": 0, "cosine": 1.0}


def test_the_first_reason_in_order_is_given() -> None:
    everything_wrong = examined("alice", number=1, arrived=2.0, unsafe=0.9, alignment=0)
    others = [examined("alice", arrived=2.0), examined("bob", arrived=1.0)]
    known = {"seen": {everything_wrong.key: seen("prompt 0")[ImageKey(0, "alice", 0)]}}
    assert reasons([everything_wrong, *others], **known)[0] == NOT_SAFE
    without_nsfw = GATES.model_copy(update={"nsfw": None})
    assert reasons([everything_wrong, *others], without_nsfw, **known)[0] == IGNORES_PROMPT
    only_duplicates = without_nsfw.model_copy(update={"alignment": None})
    assert reasons([everything_wrong, others[0]], only_duplicates, **known)[0] == DUPLICATE
    assert reasons([everything_wrong, *others], only_duplicates, **known)[0] == COPY  # as the other one is, too
    assert reasons([everything_wrong], only_duplicates, **known)[0] == SEEN_BEFORE
    assert reasons([everything_wrong], GateSettings())[0] == VALID


def test_an_answer_that_is_not_what_its_model_makes() -> None:
    images = [examined(number=0), examined(number=1, picture=1), examined("bob", picture=2)]
    failed = Check(number=1, model="pocket", cosine=0.5, threshold=0.9, matches=False)
    verdicts = judge(images, GATES, proofs=Proofs({images[1].key: failed}))
    assert [verdicts[image.key].reason for image in images] == [NOT_REGENERATED, NOT_REGENERATED, VALID]
    passed = judge(images, GATES, proofs=Proofs({images[1].key: replace(failed, cosine=0.95, matches=True)}))
    assert [passed[image.key].reason for image in images] == [VALID] * 3
    assert [passed[image.key].evidence is not None for image in images] == [False, True, False]  # what was looked at


MATCH = Check(number=0, model="pocket", cosine=0.99, threshold=0.9, matches=True)
VERIFYING = GATES.model_copy(
    update={
        "regeneration": RegenerationGate(models={"pocket": VerifiedModel(cosine=0.9, provenance="x")}, unproven=0.5)
    }
)


def test_what_is_made_again_is_nobodys_copy_and_others_copies_of_it_are() -> None:
    first, second, third = (
        examined(name, arrived=when) for name, when in (("mallory", 0.1), ("alice", 1.0), ("x", 2.0))
    )
    again = replace(second, key=second.key._replace(number=1))
    images, proofs = [first, second, again, third], Proofs({second.key: MATCH, again.key: MATCH})
    assert reasons(images) == [VALID, COPY, COPY, COPY]
    assert reasons(images, proofs=proofs) == [VALID, VALID, VALID, COPY]
    known = {"seen": seen("another"), "proofs": proofs}
    assert reasons([second], **known) == [VALID]
    assert reasons([replace(second, findings=replace(second.findings, alignment=0.0))], **known) == [IGNORES_PROMPT]
    assert reasons(
        [examined("mallory", arrived=0.1), second], proofs=Proofs({first.key: replace(MATCH, matches=False)})
    ) == [
        NOT_REGENERATED,
        VALID,
    ]


def test_what_cannot_be_proven_is_paid_in_part() -> None:
    images = [examined(), examined("bob", picture=1)]
    proofs = Proofs({}, {images[1].key})
    assert [judge(images, VERIFYING, proofs=proofs)[image.key] for image in images] == [
        Verdict(VALID),
        Verdict(VALID, {"unproven": 0.5}, 0.5),
    ]
    assert judge(images, GATES, proofs=proofs)[images[1].key] == Verdict(VALID)  # the profile knows no model


def test_suspicion_is_about_answers_to_the_same_prompt_only() -> None:
    suspicion = Suspicion(laid_over=0.9, times_nearer=9, provenance="made up")
    duplicates = DUPLICATES.model_copy(update={"hash_distance": 0, "laid_over": 2.0, "suspicion": suspicion})
    gates = GateSettings(duplicates=duplicates)
    rng = np.random.default_rng(0)
    picture, noise = np.kron(rng.uniform(0, 255, (8, 8)), np.ones((8, 8))), rng.normal(0, 6, (4, 64, 64))
    images = [
        replace(image, phash=(picture + of_one).clip(0, 255).astype(np.uint8).tobytes())
        for of_one, image in zip(
            noise,
            (
                examined(),
                examined(number=1),
                examined("bob", arrived=2.0),
                examined("bob", position=1, arrived=2.0),
            ),
            strict=True,
        )
    ]
    assert reasons(images, gates) == [VALID] * 4
    assert reasons(images, gates, suspected={image.key for image in images}) == [VALID, VALID, COPY, VALID]


@pytest.mark.parametrize("field", ["total", "incentive", "disagreement", "trust", "alignment", "unsafe", "embedding"])
@pytest.mark.parametrize("nothing", [np.nan, np.inf, -np.inf])
def test_a_figure_that_is_no_number_passes_no_gate(field: str, nothing: float) -> None:
    image = examined()
    assert image.findings is not None and image.findings.embedding is not None
    figure = np.where(np.arange(PICTURES), image.findings.embedding, nothing) if field == "embedding" else nothing
    poisoned = replace(image, findings=replace(image.findings, **{field: figure}))
    for gates in (GATES, GateSettings()):
        assert reasons([poisoned, examined("bob", arrived=2.0)], gates) == [NO_SCORE, VALID]


def test_an_image_that_is_stopped_itself_takes_nothing_from_others() -> None:
    bait = examined("mallory", arrived=0.1, alignment=0.0)
    unsafe = examined("mallory", number=1, arrived=0.1, unsafe=0.9)
    assert reasons([bait, unsafe, examined()]) == [IGNORES_PROMPT, NOT_SAFE, VALID]


def test_pictures_that_only_look_alike_by_hash_are_told_apart() -> None:
    twin = examined("bob", arrived=2.0)
    assert twin.findings is not None
    other = replace(twin, findings=replace(twin.findings, embedding=embedding_of(1)))
    assert reasons([examined(), other]) == [VALID, VALID]


def test_an_image_is_alike_that_is_far_nearer_to_one_than_to_any_rival() -> None:
    found, far = Alike(0, 60, 0.95, laid_over=0.985), [Alike(1, 90, 0.9, laid_over=0.3)] * FEWEST_RIVALS
    near = [Alike(1, 90, 0.9, laid_over=0.97)] * FEWEST_RIVALS
    assert times_nearer(found, far) == pytest.approx(0.051 / 0.016)  # as if they were 0.95 like
    assert times_nearer(found, near) == pytest.approx(0.031 / 0.016)
    assert is_alike(found, far, DUPLICATES) and not is_alike(found, near, DUPLICATES)
    assert not is_alike(found, far[1:], DUPLICATES) and not is_alike(found, [], DUPLICATES)
    assert is_alike(Alike(0, 60, 0.95, laid_over=0.995), [], DUPLICATES)
    assert is_alike(Alike(0, 10, 0.95), [], DUPLICATES)
    assert not is_alike(Alike(0, 60, 0.95, laid_over=0.5), far, DUPLICATES)


@settings(deadline=None)  # a busy machine takes its time over comparing images
@given(st.lists(st.floats(0, 1), min_size=FEWEST_RIVALS, max_size=20), st.floats(0.9, 1), st.floats(0, 1))
def test_more_rivals_make_nobody_more_alike(likeness: list[float], found: float, another: float) -> None:
    rivals = [Alike(1, 60, 0.9, laid_over=like) for like in likeness]
    one = Alike(0, 60, 0.9, laid_over=found)
    assert times_nearer(one, [*rivals, Alike(2, 60, 0.9, laid_over=another)]) <= times_nearer(one, rivals)


@st.composite
def rounds(draw: st.DrawFn) -> list[Examined]:
    """Up to three miners with up to three images each for two prompts, of few pictures and at few instants."""
    images = []
    for position in range(2):
        for hotkey in ("alice", "bob", "carol"):
            arrived = draw(st.sampled_from((0.5, 1.0, 1.5)))
            for number in range(draw(st.integers(0, 3))):
                image = examined(
                    hotkey,
                    draw(st.integers(0, PICTURES - 2)),
                    position=position,
                    number=number,
                    arrived=arrived,
                    unsafe=draw(st.sampled_from((0.0, 0.9))),
                    alignment=draw(st.sampled_from((0.0, 2.0))),
                )
                broken = draw(st.sampled_from((False, False, False, True)))
                images.append(replace(image, refused="no image", phash=None, findings=None) if broken else image)
    return images


@settings(deadline=None)  # a busy machine takes its time over comparing images
@given(rounds())
def test_every_image_gets_one_verdict_with_evidence_that_can_be_told(images: list[Examined]) -> None:
    verdicts = judge(images, GATES)
    assert verdicts.keys() == {image.key for image in images}
    for verdict in verdicts.values():
        assert len(json.dumps(verdict.evidence)) < 1024


@settings(deadline=None)  # a busy machine takes its time over comparing images
@given(rounds(), st.randoms())
def test_the_order_in_which_images_are_listed_does_not_matter(images: list[Examined], chance: object) -> None:
    shuffled = images.copy()
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert judge(shuffled, GATES) == judge(images, GATES)


@settings(deadline=None)  # a busy machine takes its time over comparing images
@given(rounds())
def test_of_every_picture_one_image_at_most_is_paid(images: list[Examined]) -> None:
    verdicts = judge(images, GateSettings(duplicates=DUPLICATES))
    paid = [image for image in images if verdicts[image.key].reason == VALID]
    pictures = [int(np.argmax(image.findings.embedding)) for image in paid if image.findings is not None]  # type: ignore[arg-type]
    shown = {int(np.argmax(image.findings.embedding)) for image in images if image.findings is not None}  # type: ignore[arg-type]
    assert sorted(pictures) == sorted(shown)


@settings(deadline=None)  # a busy machine takes its time over comparing images
@given(rounds(), st.data())
def test_a_copier_changes_nobody_elses_verdict(images: list[Examined], data: st.DataObject) -> None:
    found = [image for image in images if image.findings is not None]
    before = judge(images, GATES)
    if found:
        stolen = data.draw(st.sampled_from(found))
        copy = replace(stolen, key=stolen.key._replace(hotkey="mallory"), arrived=stolen.arrived + 0.1)
        after = judge([*images, copy], GATES)
        assert after.pop(copy.key).reason != VALID
        assert after == before


@settings(deadline=None)  # a busy machine takes its time over comparing images
@given(rounds(), st.data())
def test_proofs_decide_as_they_are_documented(images: list[Examined], data: st.DataObject) -> None:
    """Whatever is proven of whom: no other gate is opened by it, and what was compared before changes nothing."""
    known = [image.key for image in images if image.findings is not None]
    chosen = data.draw(st.lists(st.sampled_from(known), unique=True)) if known else []
    checks = {key: replace(MATCH, matches=data.draw(st.booleans())) for key in chosen}
    proofs = Proofs(checks, frozenset(known) - checks.keys())
    compared: dict[tuple[int, int], float] = {}
    judge(images, VERIFYING, suspected=known, compared=compared)
    verdicts = judge(images, VERIFYING, proofs=proofs, compared=compared)
    assert verdicts == judge(images, VERIFYING, proofs=proofs)
    lied = {key[:2] for key, check in checks.items() if not check.matches}
    for image in images:
        verdict = verdicts[image.key]
        if image.key[:2] in lied:
            assert verdict.reason != VALID
        elif image.key in checks:
            assert verdict.reason == judge([image], VERIFYING)[image.key].reason  # as if it were alone
            assert verdict.paid == 1
        else:
            assert verdict.paid == (0.5 if verdict.reason == VALID else 1)


@settings(deadline=None)  # a busy machine takes its time over comparing images
@given(rounds())
def test_without_gates_whatever_can_be_scored_is_paid(images: list[Examined]) -> None:
    verdicts = judge(images, GateSettings())
    assert all((verdicts[image.key] == Verdict(VALID)) == (image.refused is None) for image in images)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"duplicate": {}}, r"profile 'mine': gates: duplicate: Extra inputs"),
        ({"duplicates": {"hash_distance": 8}}, r"gates: duplicates\.laid_over: Field required"),
        ({"nsfw": {"check": "opennsfw", "threshold": 2, "provenance": "x"}}, r"gates: nsfw\.threshold: .*less than"),
    ],
)
def test_a_section_that_cannot_be_used_is_refused(section: dict[str, object], message: str) -> None:
    with pytest.raises(ProfileUnusable, match=message):
        GateSettings.parse(section, "mine")
    assert GateSettings.parse(None, "mine") == GateSettings()
