"""Files in the decoder, in this process: the function that its workers call."""

from __future__ import annotations

import struct
import zlib

from ig_subnet.imaging import ImageError, decode_image
from wire_fuzzing.transport import Finding

FORMATS = ("png", "jpeg", "webp", "gif")
SIZE = (24, 16)  # width, height
REPAIRED = 4  # option: the checksums of a PNG's chunks are made right, or hardly any change gets past them


def images(data: bytes) -> None:
    """The first byte's lowest bits choose the format that is claimed, the rest is the file."""
    options, file = (data[0], data[1:]) if data else (0, b"")
    if options & REPAIRED:
        file = _with_checksums(file)
    try:
        pixels = decode_image(
            file, expected_format=FORMATS[options & 3], expected_size=SIZE, max_pixels=SIZE[0] * SIZE[1]
        )
    except ImageError as error:
        if not error.reason.isascii() or len(error.reason) > 200:
            raise Finding(f"a reason that does not go through a worker's pipe: {error.reason!r}") from error
        return
    if pixels.shape != (SIZE[1], SIZE[0], 3) or pixels.dtype != "uint8":
        raise Finding(f"pixels of shape {pixels.shape}, {pixels.dtype}")


def _with_checksums(file: bytes) -> bytes:
    kept, position = [file[:8]], 8
    while position + 12 <= len(file):
        (length,) = struct.unpack_from(">I", file, position)
        chunk = file[position + 4 : position + 8 + length]
        kept.append(file[position : position + 4] + chunk + struct.pack(">I", zlib.crc32(chunk)))
        position += 12 + length
    return b"".join([*kept, file[position:]])
