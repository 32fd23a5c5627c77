"""What comes in as an image and what the decoder makes of it: a table of honest files and of hostile ones."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from ig_subnet.imaging import ImageError, decode_image

SIZE = (48, 32)  # width, height
MAX_PIXELS = 64 * 64


def picture(mode: str = "RGB", size: tuple[int, int] = SIZE) -> Image.Image:
    pixels = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    return Image.fromarray(pixels, "RGBA").convert(mode)


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def decode(data: bytes, format: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    return decode_image(data, expected_format=format, expected_size=SIZE, max_pixels=max_pixels)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *, colour: int = 2, idat: bytes = b"", before: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", idat) + chunk(b"IEND", b"")


def webp(kind: bytes, body: bytes) -> bytes:
    inner = b"WEBP" + kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(inner)) + inner


def canvas(width: int, height: int, flags: int = 0) -> bytes:
    """The VP8X chunk of an extended WebP file."""
    return bytes([flags, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


@pytest.mark.parametrize(
    ("format", "options", "lossless"),
    [
        ("png", {}, True),
        ("webp", {"lossless": True}, True),
        ("webp", {"lossless": True, "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}, True),  # an extended file
        ("jpeg", {"quality": 95}, False),
        ("jpeg", {"quality": 80, "progressive": True}, False),
        ("webp", {"quality": 90}, False),
    ],
)
def test_an_honest_image_comes_out_as_it_went_in(format: str, options: dict, lossless: bool) -> None:
    original = picture()
    pixels = decode(encode(original, format, **options), format)
    assert pixels.shape == (32, 48, 3)
    assert pixels.dtype == np.uint8
    if lossless:
        np.testing.assert_array_equal(pixels, np.asarray(original))


def test_metadata_has_no_effect() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by a quarter
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 1000, zip=True)
    data = encode(picture(), "PNG", exif=exif, pnginfo=text, gamma=2.0, icc_profile=b"no profile at all")
    np.testing.assert_array_equal(decode(data, "png"), np.asarray(picture()))
    assert decode(encode(picture(), "JPEG", exif=exif), "jpeg").shape == (32, 48, 3)


def test_a_jpeg_needs_nothing_but_its_tables() -> None:
    """Comments, EXIF and profiles are cut out, padding between segments is allowed, and the pixels stay the same."""
    beside = b"\xff\xe1\0\x0cExif\0\0II*\0" + b"\xff\xe2\0\x10ICC_PROFILE\0\1\1" + b"\xff\xff\xff\xfe\0\4hi"
    data = HONEST_JPEG[:2] + beside + HONEST_JPEG[2:]
    np.testing.assert_array_equal(decode(data, "jpeg"), decode(HONEST_JPEG, "jpeg"))


def test_metadata_that_inflates_is_not_even_read() -> None:
    """Forty profiles of a kilobyte that would inflate to a megabyte each, and a text of 40."""
    bombs = chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(1_000_000), 9)) * 40
    bombs += chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(10_000_000), 9))
    honest = encode(picture(), "PNG")
    after_header = 8 + 25
    data = honest[:after_header] + bombs + honest[after_header:]
    np.testing.assert_array_equal(decode(data, "png"), np.asarray(picture()))


HONEST_PNG = encode(picture(), "PNG")
HONEST_JPEG = encode(picture(), "JPEG")
HONEST_WEBP = encode(picture(), "WEBP", lossless=True)
ANIMATION = {"save_all": True, "append_images": [picture("L").convert("RGB")]}

HOSTILE: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "nothing": (lambda: b"", "png", "not a png"),
    "a format nobody offered": (lambda: encode(picture(), "GIF"), "gif", "none of png, jpeg, webp"),
    "a jpeg called png": (lambda: HONEST_JPEG, "png", "not a png"),
    "a png called jpeg": (lambda: HONEST_PNG, "jpeg", "not a jpeg"),
    "a png called webp": (lambda: HONEST_PNG, "webp", "not a webp"),
    "a wave file called webp": (lambda: b"RIFF\x24\0\0\0WAVEfmt " + bytes(40), "webp", "not a webp"),
    "a gif behind a png's signature": (lambda: HONEST_PNG[:8] + encode(picture(), "GIF"), "png", "does not decode"),
    "too small": (lambda: encode(picture(size=(32, 32)), "PNG"), "png", "is 32x32, 48x32 was asked"),
    "turned by a quarter": (lambda: encode(picture(size=(32, 48)), "JPEG"), "jpeg", "is 32x48, 48x32 was asked"),
    "too small, as webp": (lambda: encode(picture(size=(32, 32)), "WEBP"), "webp", "is 32x32"),
    "a png bomb": (lambda: png(30_000, 30_000, idat=zlib.compress(bytes(90_000))), "png", "more than 4096 pixels"),
    "a png of 2^31 pixels a side": (lambda: png(2**31 - 1, 2**31 - 1), "png", "more than 4096 pixels"),
    "a png without pixels": (lambda: png(0, 0), "png", "is 0x0|does not decode"),
    "a webp bomb": (lambda: webp(b"VP8X", canvas(16_383, 16_383)), "webp", "more than 4096 pixels"),
    "a webp of 2^24 pixels a side": (lambda: webp(b"VP8X", canvas(2**24, 2**24)), "webp", "more than 4096 pixels"),
    "a lossless webp bomb": (
        lambda: webp(b"VP8L", b"\x2f" + (0x3FFF | 0x3FFF << 14).to_bytes(4, "little") + bytes(20)),
        "webp",
        "more than 4096 pixels",
    ),
    "a lossy webp bomb": (
        lambda: webp(b"VP8 ", b"\x10\0\0\x9d\x01\x2a\xff\x3f\xff\x3f" + bytes(20)),
        "webp",
        "more than 4096 pixels",
    ),
    "a webp whose frame is larger than its canvas": (
        lambda: webp(b"VP8X", canvas(*SIZE) + b"VP8L" + struct.pack("<I", 25) + b"\x2f\xff\xff\xff\x0f" + bytes(20)),
        "webp",
        "does not decode",
    ),
    "a jpeg of a thousand passes": (
        lambda: HONEST_JPEG[:-2] + b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" * 1000 + b"\xff\xd9",
        "jpeg",
        "too many scans",
    ),
    "a png of a thousand pieces": (
        lambda: HONEST_PNG[:33] + chunk(b"IDAT", b"") * 1000 + HONEST_PNG[33:],
        "png",
        "too many pieces",
    ),
    "a jpeg of a thousand comments": (
        lambda: HONEST_JPEG[:2] + b"\xff\xfe\0\x02" * 1000 + HONEST_JPEG[2:],
        "jpeg",
        "too many pieces",
    ),
    "a jpeg of padding": (lambda: HONEST_JPEG[:2] + b"\xff" * 4000 + HONEST_JPEG[2:], "jpeg", "too many pieces"),
    "a jpeg without a scan": (lambda: HONEST_JPEG[:20], "jpeg", "does not decode"),
    "more bytes than pixels need": (lambda: HONEST_PNG + bytes(200_000), "png", "more bytes than"),
    "a truncated png": (lambda: HONEST_PNG[: len(HONEST_PNG) // 2], "png", "does not decode"),
    "a truncated jpeg": (lambda: HONEST_JPEG[: len(HONEST_JPEG) // 2], "jpeg", "does not decode"),
    "a truncated webp": (lambda: HONEST_WEBP[: len(HONEST_WEBP) // 2], "webp", "does not decode"),
    "a png with too little data": (lambda: png(*SIZE, idat=zlib.compress(bytes(100))), "png", "does not decode"),
    "a png with a wrong checksum": (
        lambda: HONEST_PNG[:60] + bytes([HONEST_PNG[60] ^ 1]) + HONEST_PNG[61:],
        "png",
        "does not decode",
    ),
    "a png with alpha": (lambda: encode(picture("RGBA"), "PNG"), "png", "alpha"),
    "a png with a transparent colour": (lambda: encode(picture(), "PNG", transparency=(1, 2, 3)), "png", "alpha"),
    "a webp with alpha": (lambda: encode(picture("RGBA"), "WEBP", lossless=True), "webp", "alpha"),
    "a lossy webp with alpha": (lambda: encode(picture("RGBA"), "WEBP"), "webp", "alpha"),
    "a grey png": (lambda: encode(picture("L"), "PNG"), "png", "not an RGB image"),
    "a grey jpeg": (lambda: encode(picture("L"), "JPEG"), "jpeg", "not an RGB image"),
    "a jpeg of four inks": (lambda: encode(picture("CMYK"), "JPEG"), "jpeg", "not an RGB image"),
    "a png with a palette": (lambda: encode(picture().convert("P"), "PNG"), "png", "not an RGB image"),
    "a moving png": (lambda: encode(picture(), "PNG", **ANIMATION), "png", "more than one frame"),
    "a moving png with a poster": (
        lambda: encode(picture(), "PNG", default_image=True, **ANIMATION),
        "png",
        "more than one frame",
    ),
    "a moving webp": (lambda: encode(picture(), "WEBP", **ANIMATION), "webp", "more than one frame"),
    "two pictures in a jpeg": (lambda: encode(picture(), "MPO", **ANIMATION), "jpeg", "more than one frame"),
    "a program": (lambda: b"\xff\xd8\xff#!/bin/sh\nrm -rf /\n", "jpeg", "does not decode"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_image_is_refused_with_the_reason(name: str) -> None:
    build, format, reason = HOSTILE[name]
    with pytest.raises(ImageError, match=reason) as refused:
        decode(build(), format)
    assert len(refused.value.reason.encode()) <= 200


def test_the_pixel_cap_holds_also_against_the_caller() -> None:
    with pytest.raises(ImageError, match="more than 100 pixels"):
        decode(HONEST_PNG, "png", max_pixels=100)


@given(data=st.binary(max_size=400), format=st.sampled_from(["png", "jpeg", "webp"]), cut=st.integers(0, 200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_end_in_pixels_or_a_reason(data: bytes, format: str, cut: int) -> None:
    honest = {"png": HONEST_PNG, "jpeg": HONEST_JPEG, "webp": HONEST_WEBP}[format]
    try:
        pixels = decode(honest[:cut] + data + honest[cut + len(data) :], format)
    except ImageError:
        return
    assert pixels.shape == (32, 48, 3)


def test_decoding_needs_only_pillow_and_numpy() -> None:
    program = "import ig_subnet.imaging.worker, sys; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert not {"torch", "protocol", "pydantic", "aiohttp", "bittensor", "loguru"} & set(done.stdout.split())
