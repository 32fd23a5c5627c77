"""Transformed copies, trust, and the robust scores of a mixture."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ig_subnet.rewards import Calibration, ConfigurationError, InputError, Mixture, NonFiniteScore, load_mixture
from ig_subnet.rewards.configuration import RobustConfig
from ig_subnet.rewards.mixture import IMAGES_COPIED, Member
from ig_subnet.rewards.preprocessing import ImageBatch, View, shortest_to
from ig_subnet.rewards.robust import transformed, trust

ROBUST = {"copies": 3, "tolerated_spread": 0.5, "distrusted_spread": 1.5, "provenance": "a test"}


def checkerboard(square: int, side: int) -> Image.Image:
    rows, columns = np.indices((side, side)) // square
    return Image.fromarray(((rows + columns) % 2 * 255).astype(np.uint8)).convert("RGB")


def contrast(image: Image.Image) -> float:
    return float(np.asarray(image, np.float32)[8:-8, 8:-8].std())


# --- the copies


@given(width=st.integers(1, 90), height=st.integers(1, 90), size=st.integers(8, 64), seed=st.binary(max_size=40))
@settings(max_examples=60, deadline=None)
def test_copies_have_the_size_of_the_experts_and_follow_from_the_seed(
    width: int, height: int, size: int, seed: bytes
) -> None:
    if max(width, height) > 64 * min(width, height):
        return
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8))
    copies = transformed(image, seed, 3, size)
    assert [(made.size, made.mode) for made in copies] == [(shortest_to(size, image.size), "RGB")] * 3
    assert [made.tobytes() for made in transformed(image, seed, 2, size)] == [made.tobytes() for made in copies[:2]]


def test_each_copy_and_each_seed_is_another() -> None:
    image = checkerboard(16, 64)
    made = [one.tobytes() for seed in (b"a", b"b") for one in transformed(image, seed, 4, 64)]
    assert len(set(made)) == 8


@pytest.mark.parametrize("colour", [(255, 0, 0), (3, 200, 77), (0, 0, 0)])
def test_no_edge_of_another_colour_comes_in(colour: tuple[int, int, int]) -> None:
    for made in transformed(Image.new("RGB", (80, 48), colour), b"seed", 8, 48):
        assert np.abs(np.asarray(made, int) - colour).max() <= 4  # JPEG rounds colours


@pytest.mark.parametrize("side", [64, 128, 512])
def test_what_a_copy_loses_is_measured_in_pixels_of_the_experts(side: int) -> None:
    """However large the image, a pattern of single pixels of what they see is blurred, and large shapes are not."""
    scale = side // 64
    for made in transformed(checkerboard(scale, side), b"seed", 4, 64):
        assert contrast(made) < 0.6 * 127.5
    for made in transformed(checkerboard(16 * scale, side), b"seed", 4, 64):
        assert contrast(made) > 0.8 * 127.5


# --- trust


@given(
    spreads=st.lists(st.floats(0, 4), min_size=2, max_size=20),
    tolerated=st.floats(0, 4),
    width=st.floats(1e-3, 4),
)
def test_trust_falls_from_1_to_0_and_never_rises(spreads: list[float], tolerated: float, width: float) -> None:
    ordered = torch.tensor(sorted(spreads), dtype=torch.float64)
    found = trust(ordered, tolerated, tolerated + width)
    assert bool((found.diff() <= 0).all()) and float(found.min()) >= 0 and float(found.max()) <= 1
    assert bool((found[ordered <= tolerated] == 1).all()) and bool((found[ordered >= tolerated + width] == 0).all())


# --- robust scores


@pytest.fixture(scope="module")
def mixture(both: dict) -> Mixture:
    return load_mixture({**both, "robust": ROBUST}, "cpu")


def seeds(count: int) -> list[bytes]:
    return [f"image {number}".encode() for number in range(count)]


def test_the_worst_of_image_and_copies_counts(mixture: Mixture, pictures: list[Image.Image]) -> None:
    result = mixture.score_robustly(pictures, "a cat", None, seeds(7))
    plain = mixture.score(pictures, "a cat")
    assert torch.equal(result.score.total, plain.total) and torch.equal(result.score.incentive, plain.incentive)
    for name, worst in result.worst.items():
        made = [
            mixture.score(transformed(image, seed, 3, 32), "a cat").components[name].min()
            for image, seed in zip(pictures, seeds(7), strict=True)
        ]
        torch.testing.assert_close(worst, torch.minimum(plain.components[name], torch.stack(made)), rtol=0, atol=1e-5)
    marks = {m.expert.name: m.calibration.apply(result.worst[m.expert.name]) for m in mixture.members}
    mean = (marks["pick_score"] + 0.5 * marks["clip_aesthetic"]) / 1.5
    torch.testing.assert_close(result.trust, trust(mixture.spread(plain), 0.5, 1.5))
    torch.testing.assert_close(result.incentive, mean * result.trust)


def test_embeddings_are_those_of_the_same_pass(mixture: Mixture, pictures: list[Image.Image]) -> None:
    passes: list[int] = []
    handle = mixture.expert("pick_score").vision.module.register_forward_pre_hook(  # type: ignore[attr-defined]
        lambda module, inputs: passes.append(len(inputs))
    )
    square = [pictures[0], pictures[5]]  # both crop rules see the same pixels
    result = mixture.score_robustly(square, "a cat", None, seeds(2))
    handle.remove()
    assert len(passes) == 2  # the images, and their copies
    assert set(result.embeddings) == {"pick_score", "clip_aesthetic"}
    for name, embeddings in result.embeddings.items():
        assert embeddings.shape == (2, 8) and embeddings.dtype == torch.float32
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))
        torch.testing.assert_close(mixture.embed(square, name), embeddings)


def test_scores_do_not_depend_on_the_company_of_an_image(mixture: Mixture, pictures: list[Image.Image]) -> None:
    many = [pictures[number % 7] for number in range(IMAGES_COPIED + 6)]
    prompts = ["red cat" if number % 3 else "dog" for number in range(len(many))]
    together = mixture.score_robustly(many, prompts, None, seeds(len(many)))
    for number in (0, IMAGES_COPIED - 1, IMAGES_COPIED, len(many) - 1):
        alone = mixture.score_robustly([many[number]], prompts[number], None, [seeds(len(many))[number]])
        assert float(alone.incentive) == pytest.approx(float(together.incentive[number]), abs=1e-5)


def test_switched_off_they_are_the_plain_scores(both: dict, pictures: list[Image.Image]) -> None:
    for config in (both, {**both, "robust": None}):
        result = load_mixture(config, "cpu").score_robustly(pictures, "a cat", None, seeds(7))
        assert torch.equal(result.incentive, result.score.incentive)
        assert result.worst == result.score.components and result.trust.tolist() == [1.0] * 7
        assert set(result.embeddings) == {"pick_score", "clip_aesthetic"}


@pytest.mark.parametrize("robust", [ROBUST, None])
def test_no_images_give_empty_tensors(both: dict, robust: dict | None) -> None:
    result = load_mixture({**both, "robust": robust}, "cpu").score_robustly([], "a cat", None, [])
    assert result.incentive.shape == result.trust.shape == result.worst["pick_score"].shape == (0,)
    assert result.embeddings["pick_score"].shape == (0, 8)


def test_a_seed_for_each_image(mixture: Mixture, pictures: list[Image.Image]) -> None:
    with pytest.raises(InputError, match="7 images but 2 seeds"):
        mixture.score_robustly(pictures, "a cat", None, [b"a", b"b"])


def test_an_expert_that_the_mixture_has_not(mixture: Mixture, pictures: list[Image.Image]) -> None:
    with pytest.raises(ConfigurationError, match="no expert hps_v2 in the mixture, which has pick_score"):
        mixture.embed(pictures, "hps_v2")


class Fixed:
    """An expert that gives images as they are one score, and their copies another."""

    identity = "a test"
    device = torch.device("cpu")
    image_bytes = 1
    image_size = 16

    def __init__(self, name: str, plain: float, copied: float) -> None:
        self.name, self.plain, self.copied = name, plain, copied

    def score(self, images: Any, prompts: Any) -> torch.Tensor:
        raise NotImplementedError

    def score_batch(self, batch: ImageBatch, prompts: Any) -> torch.Tensor:
        return torch.tensor([self.plain if image.size == (8, 8) else self.copied for image in batch.images])

    def view(self, batch: ImageBatch) -> View:
        raise NotImplementedError

    def truncated(self, prompts: Any) -> list[bool]:
        return [False] * len(prompts)


def paid(*scores: tuple[float, float]) -> float:
    """The incentive of an image by experts that give it and its copies these scores."""
    members = [
        Member(Fixed(str(number), *pair), 1.0, Calibration(0, 1, "a test")) for number, pair in enumerate(scores)
    ]
    mixture = Mixture(members, robust=RobustConfig.model_validate(ROBUST))
    return float(mixture.score_robustly([Image.new("RGB", (8, 8))], "", None, [b""]).incentive)


def test_experts_that_say_the_opposite_pay_nothing() -> None:
    assert paid((3, 3), (-3, -3)) == 0
    assert paid((3, 3), (3, 3)) > 0.99
    assert paid((1, 1), (-1, -1)) == pytest.approx(0.5 * 0.5)  # a spread of 1 is half trusted
    assert paid((3.9, 3.9), (1, 1)) < 0.1  # both say good, one of them more than anything honest is


def test_a_copy_counts_where_it_scores_less_and_not_where_it_scores_more() -> None:
    assert paid((1, -1), (1, -1)) == paid((-1, 1), (-1, 1)) == pytest.approx(0.1587, abs=1e-4)


def test_an_overflow_on_a_copy_is_no_score() -> None:
    with pytest.raises(NonFiniteScore):
        paid((1, float("nan")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"copies": 0}, r"robust\.copies: .*greater than or equal to 1"),
        ({"copies": 33}, r"robust\.copies"),
        ({"tolerated_spread": 1.5}, "must be less than distrusted_spread"),
        ({"tolerated_spread": -0.1}, r"robust\.tolerated_spread"),
        ({"distrusted_spread": float("nan")}, r"robust\.distrusted_spread"),
        ({"provenance": ""}, r"robust\.provenance"),
        ({"blur": 1}, "Extra inputs"),
    ],
)
def test_a_wrong_configuration_is_named(both: dict, change: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_mixture({**copy.deepcopy(both), "robust": {**ROBUST, **change}}, "cpu")
