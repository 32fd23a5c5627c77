"""Grain: what it finds in patterns all over an image, and what it does not find in edges."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from ig_subnet.pocket import render, sample_scene
from ig_subnet.rewards import InputError
from ig_subnet.rewards.grain import _medians, grain


def noise(deviation: float, picture: Image.Image) -> Image.Image:
    rng = np.random.default_rng(5)
    pixels = np.asarray(picture, np.float32)
    return Image.fromarray((pixels + rng.normal(0, deviation, pixels.shape)).round().clip(0, 255).astype(np.uint8))


def pictures(number: int) -> list[Image.Image]:
    rng = np.random.default_rng(7)
    return [render(sample_scene(rng), rng) for _ in range(number)]


@given(st.integers(3, 12), st.integers(3, 12), st.binary(min_size=1))
def test_the_median_is_that_of_pillow(height: int, width: int, content: bytes) -> None:
    levels = np.resize(np.frombuffer(content, np.uint8), (height, width, 3))
    expected = np.asarray(Image.fromarray(levels).filter(ImageFilter.MedianFilter(3)))[1:-1, 1:-1]
    assert np.array_equal(_medians(levels), expected)


def test_drawings_have_none_whatever_they_show_and_however_they_are_sent() -> None:
    drawn = pictures(40)
    files = [io.BytesIO() for _ in drawn]
    for picture, file in zip(drawn, files, strict=True):
        picture.save(file, "JPEG", quality=80)
    assert max(grain(drawn, 64)) < 0.2
    assert max(grain([Image.open(file) for file in files], 64)) < 1


@pytest.mark.parametrize("side", [48, 64, 200])
def test_a_pattern_of_a_few_levels_is_found_at_the_size_that_experts_see(side: int) -> None:
    clean = [picture.resize((side, side), Image.Resampling.BICUBIC) for picture in pictures(10)]
    rough = [noise(8, picture.resize((48, 48))).resize((side, side)) for picture in clean]
    assert min(grain(rough, 48)) > 4 * max(grain(clean, 48))


def test_it_grows_with_the_pattern() -> None:
    (picture,) = pictures(1)
    found = grain([noise(deviation, picture) for deviation in (0, 2, 4, 8)], 64)
    assert found == sorted(found) and found[-1] > 2


def test_what_is_not_an_image_is_refused() -> None:
    with pytest.raises(InputError, match="image 1 is a str"):
        grain([*pictures(1), "picture.png"], 64)  # type: ignore[list-item]
    assert grain([], 64) == []
