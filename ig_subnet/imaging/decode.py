"""Safe decoding of an image that a stranger sent.

What it is (format, size, frames, alpha) is read from its header and held against what was asked before any pixel is
allocated; only the plugin of the declared format ever sees the bytes. Metadata (EXIF, ICC, text) has no effect. The
time taken is in proportion to bytes and pixels, whatever they are. Still, this runs a lot of C on hostile input: the
validator does it in a `DecoderPool`.
"""

from __future__ import annotations

import warnings
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from ig_subnet.imaging.errors import ImageError

# The plugin classes themselves: Image.open would try others, and hands a multi-picture JPEG to one more.
PLUGINS: dict[str, type[ImageFile]] = {"png": PngImageFile, "jpeg": JpegImageFile, "webp": WebPImageFile}
SIGNATURES = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff", "webp": b"RIFF"}

BYTES_PER_PIXEL = 4  # incompressible RGB as PNG takes a little over 3
METADATA_BYTES = 65_536  # what a file may carry beside its pixels
PIECE_BYTES = 128  # chunks and segments are this long on average at least; encoders make them of 4,096 and more
FREE_PIECES = 64  # but for so many
JPEG_SCANS = 64  # progressive encoders make about 10; each is a pass over all pixels, however few bytes it has


def decode_image(
    data: bytes, *, expected_format: str, expected_size: tuple[int, int], max_pixels: int
) -> NDArray[np.uint8]:
    """The pixels of one still RGB image: uint8 [height, width, 3].

    `expected_format` is "png", "jpeg" or "webp"; `expected_size` is (width, height), to be met exactly. Raises
    ImageError with the reason for anything else: another format, size or mode, alpha, more than one frame, more than
    `max_pixels`, more bytes than such an image needs, or data that does not decode to its end.
    """
    if expected_format not in PLUGINS:
        raise ImageError("format is none of png, jpeg, webp")
    if not data.startswith(SIGNATURES[expected_format]):
        raise ImageError(f"not a {expected_format} file")
    width, height = expected_size
    if len(data) > BYTES_PER_PIXEL * width * height + METADATA_BYTES:
        raise ImageError("more bytes than an image of this size needs")
    if expected_format == "png":
        data = _png_without_metadata(data)
    elif expected_format == "jpeg":
        data = _jpeg_without_metadata(data)
    elif expected_format == "webp":
        _check_webp_header(data, expected_size, max_pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is wrong with the image raises; the rest is metadata
        try:
            with PLUGINS[expected_format](BytesIO(data)) as image:
                _check_size(image.size, expected_size, max_pixels)
                _check_still_rgb(image)
                image.load()
                return np.asarray(image, dtype=np.uint8)
        except ImageError:
            raise
        except Exception as error:  # whatever a codec makes of hostile bytes
            raise ImageError(f"does not decode ({type(error).__name__})") from error


def _check_size(size: tuple[int, int], expected_size: tuple[int, int], max_pixels: int) -> None:
    if size[0] * size[1] > max_pixels:
        raise ImageError(f"more than {max_pixels} pixels")
    if size != expected_size:
        raise ImageError(f"is {size[0]}x{size[1]}, {expected_size[0]}x{expected_size[1]} was asked")


def _check_still_rgb(image: ImageFile) -> None:
    if getattr(image, "n_frames", 1) != 1 or "mp" in image.info:
        raise ImageError("more than one frame")
    if image.mode.endswith(("A", "a")):
        raise ImageError("has an alpha channel")
    if image.mode != "RGB":
        raise ImageError("not an RGB image")


def _png_without_metadata(data: bytes) -> bytes:
    """The header, the pixels and the end. Among the rest are chunks that inflate a thousandfold, any number of them."""
    most = FREE_PIECES + len(data) // PIECE_BYTES
    kept, position, pieces = [data[:8]], 8, 0
    while position < len(data):
        if (pieces := pieces + 1) > most:
            raise ImageError("too many pieces")
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        if kind == b"acTL":
            raise ImageError("more than one frame")
        if kind == b"tRNS":
            raise ImageError("has an alpha channel")
        if kind in (b"IHDR", b"IDAT", b"IEND"):
            kept.append(data[position:end])
        position = end
    return b"".join(kept)


def _jpeg_without_metadata(data: bytes) -> bytes:
    """What the pixels need. The rest, such as EXIF, Pillow reads in Python, byte by byte, any number of times."""
    if data.count(b"\xff\xda") > JPEG_SCANS:
        raise ImageError("too many scans")
    most = FREE_PIECES + len(data) // PIECE_BYTES
    kept, position, pieces = [data[:2]], 2, 0
    while (marker := data[position : position + 2]) != b"\xff\xda":  # the first scan, where Pillow's reading ends
        if (pieces := pieces + 1) > most:
            raise ImageError("too many pieces")
        if marker == b"\xff\xff":  # one byte of padding
            position += 1
            continue
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        segment = data[position:end]
        if marker[:1] != b"\xff" or len(segment) < 4:
            raise ImageError("does not decode (no scan)")
        if marker == b"\xff\xe2" and segment[4:8] == b"MPF\0":
            raise ImageError("more than one frame")
        application = b"\xff\xe0" <= marker <= b"\xff\xef" or marker == b"\xff\xfe"
        if not application or segment[4:9] in (b"JFIF\0", b"Adobe"):  # the latter says how colours are stored
            kept.append(segment)
        position = end
    return b"".join([*kept, data[position:]])


def _check_webp_header(data: bytes, expected_size: tuple[int, int], max_pixels: int) -> None:
    """The WebP plugin allocates the whole canvas when it opens a file, so the header (RFC 9649) is read here first."""
    header = data[:30].ljust(30, b"\0")
    kind = header[12:16]
    if header[8:12] != b"WEBP" or kind not in (b"VP8 ", b"VP8L", b"VP8X"):
        raise ImageError("not a webp file")
    animated = alpha = False
    if kind == b"VP8X":
        animated, alpha = bool(header[20] & 0x02), bool(header[20] & 0x10)
        size = (int.from_bytes(header[24:27], "little") + 1, int.from_bytes(header[27:30], "little") + 1)
    elif kind == b"VP8L":
        bits = int.from_bytes(header[21:25], "little")
        alpha = bool(bits >> 28 & 1)
        size = ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    else:
        size = (int.from_bytes(header[26:28], "little") & 0x3FFF, int.from_bytes(header[28:30], "little") & 0x3FFF)
    _check_size(size, expected_size, max_pixels)
    if animated:
        raise ImageError("more than one frame")
    if alpha:
        raise ImageError("has an alpha channel")
