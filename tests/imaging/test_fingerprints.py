"""What of an image is recognised again after what, and what is told apart."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ig_subnet.imaging import fingerprint
from ig_subnet.imaging.fingerprints import (
    FINGERPRINT_BYTES,
    HASH_BITS,
    SIDE,
    laid_over,
    oriented_hashes,
    plain_hashes,
)

Pixels = NDArray[np.uint8]


def scene(seed: int, size: int = 96) -> Image.Image:
    """A dozen ellipses of random colours on a grey ground; no two scenes are the same."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (4 * size, 4 * size), (90, 90, 90))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        (x, y), (width, height) = rng.uniform(0.1, 0.9, 2) * 4 * size, rng.uniform(0.05, 0.2, 2) * 4 * size
        draw.ellipse((x - width, y - height, x + width, y + height), tuple(rng.integers(0, 256, 3).tolist()))
    return image.resize((size, size), Image.Resampling.LANCZOS)


def print_of(image: Image.Image) -> Pixels:
    return np.frombuffer(fingerprint(np.asarray(image)), np.uint8)


def distance(one: Image.Image, other: Image.Image) -> int:
    """In bits: the least over the orientations of the second."""
    ways = oriented_hashes(print_of(other))
    return int(np.bitwise_count(ways ^ plain_hashes(print_of(one)[None])).sum(axis=1).min())


def likeness(one: Image.Image, other: Image.Image) -> float:
    return float(laid_over(print_of(one), print_of(other)[None])[0])


def as_jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=60)
    return Image.open(file).convert("RGB")


def noisy(image: Image.Image) -> Image.Image:
    noise = np.random.default_rng(0).normal(0, 6, (image.height, image.width, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def cropped(image: Image.Image) -> Image.Image:
    return image.resize(image.size, Image.Resampling.BICUBIC, (4.5, 2, 90, 93.5))


def widened(image: Image.Image) -> Image.Image:
    """With a margin around it."""
    wide = Image.new("RGB", image.size, (90, 90, 90))
    wide.paste(image.resize((86, 86)), (6, 3))
    return wide


def test_a_fingerprint_is_a_thumbnail_of_brightness() -> None:
    assert len(fingerprint(np.asarray(scene(0, 200)))) == FINGERPRINT_BYTES
    grey = np.full((SIDE, SIDE, 3), 77, np.uint8)
    assert set(fingerprint(grey)) == {77}


@pytest.mark.parametrize("change", [as_jpeg, noisy, lambda image: image.resize((300, 200)).resize(image.size)])
def test_encoding_noise_and_scaling_change_few_bits(change: object) -> None:
    for seed in range(5):
        assert distance(scene(seed), change(scene(seed))) <= 12  # type: ignore[operator]


@given(seed=st.integers(0, 10_000), turns=st.integers(0, 3), mirrored=st.booleans())
@settings(max_examples=20)
def test_mirroring_and_quarter_turns_change_nothing(seed: int, turns: int, mirrored: bool) -> None:
    image = np.asarray(scene(seed, SIDE))
    turned = np.rot90(image[:, ::-1] if mirrored else image, turns)
    assert distance(Image.fromarray(image), Image.fromarray(np.ascontiguousarray(turned))) <= 2  # of rounding


@pytest.mark.parametrize("change", [cropped, widened, lambda image: image.rotate(3, Image.Resampling.BICUBIC)])
def test_crops_margins_and_small_turns_show_once_laid_over(change: object) -> None:
    for seed in range(5):
        changed = change(scene(seed))  # type: ignore[operator]
        assert likeness(scene(seed), changed) > 0.95
        assert likeness(scene(seed), changed.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) > 0.95


def test_different_images_are_told_apart() -> None:
    for seed in range(5):
        assert distance(scene(seed), scene(seed + 100)) > 50
        assert likeness(scene(seed), scene(seed + 100)) < 0.9


@given(st.data())
@settings(max_examples=30)
def test_whatever_the_pixels_figures_are_in_range_and_the_same_both_ways(data: st.DataObject) -> None:
    size = st.integers(1, 80)
    width, height = data.draw(size), data.draw(size)
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    levels = data.draw(st.integers(1, 256))  # 1: a single colour
    one, other = (rng.integers(0, levels, (height, width, 3), dtype=np.int64).astype(np.uint8) for _ in range(2))
    prints = np.stack([print_of(Image.fromarray(image)) for image in (one, other)])
    ways = oriented_hashes(prints[0])
    assert ways.shape == (8, HASH_BITS // 8) and (ways[0] == plain_hashes(prints)[0]).all()
    there, back = laid_over(prints[0], prints[1:])[0], laid_over(prints[1], prints[:1])[0]
    assert -1 <= there <= 1 + 1e-4
    assert there == pytest.approx(back, abs=1e-4)


def test_many_are_compared_as_each_for_itself() -> None:
    prints = np.stack([print_of(scene(seed)) for seed in range(4)])
    together = laid_over(prints[0], prints)
    alone = [laid_over(prints[0], prints[index : index + 1])[0] for index in range(4)]
    assert together == pytest.approx(alone, abs=1e-4)
    assert together[0] == pytest.approx(1, abs=1e-3)
