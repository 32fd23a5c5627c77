"""One picture: what is accepted, and why something is not.

These are the user's own files, so they are decoded in threads of this process, not in the processes that a validator
locks strangers' images into. Still a picture is judged by its header before its pixels take memory, and only by the
decoders of six common formats. Pixels are taken as they are stored: an EXIF orientation is not applied, because the
experts' own code opens files with Pillow, which does not.
"""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from ig_subnet.imaging.errors import ImageError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
MAX_BYTES = 256 << 20  # of a file; uncompressed pixels take at most this
MAX_PIXELS = 89_478_485  # Pillow's own line, a quarter of a gibibyte in RGB
MAX_ASPECT = 64  # as the experts' preprocessing; beyond it nearly all of a picture would be cropped away
DEEP_MODES = ("I", "F")  # 16 or 32 bits a pixel, which Pillow clips to 8 instead of scaling them
THUMBNAIL_PIXELS = 256


@dataclass(frozen=True)
class Picture:
    """A picture whose header has been read and accepted; its pixels come with `load_picture`."""

    image: Image.Image
    sha256: str

    @property
    def pixels(self) -> int:
        return self.image.width * self.image.height


def open_picture(source: Path | bytes | None) -> Picture:
    """Reads a file (or takes its bytes) and judges its header. Raises `ImageError` with the reason in a few words."""
    data = source if isinstance(source, bytes) else _read(source)
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
    except Image.UnidentifiedImageError:
        raise ImageError(f"no image of a known format ({', '.join(FORMATS)})") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"more than {MAX_PIXELS:,} pixels") from None
    except Exception as error:  # whatever a plugin makes of a broken header
        raise ImageError(f"does not decode ({type(error).__name__})") from error
    short, long = sorted(image.size)
    if short * long > MAX_PIXELS:
        raise ImageError(f"more than {MAX_PIXELS:,} pixels")
    if long > MAX_ASPECT * short:
        raise ImageError(f"is {image.width} x {image.height}, more than {MAX_ASPECT} times as long as wide")
    if getattr(image, "is_animated", False) and image.format != "MPO":  # a JPEG with more behind it, as phones make
        raise ImageError("has several frames; one still picture is scored")
    if image.mode.startswith(DEEP_MODES):
        raise ImageError(f"has more than 8 bits a channel (mode {image.mode}); convert it to 8 bits first")
    return Picture(image, hashlib.sha256(data).hexdigest())


def load_picture(picture: Picture) -> Image.Image:
    """The picture's pixels, in RGB; alpha is dropped, as the experts do. Raises `ImageError` for damaged data."""
    try:
        picture.image.load()
        return picture.image if picture.image.mode == "RGB" else picture.image.convert("RGB")
    except Exception as error:  # whatever a codec makes of damaged data
        raise ImageError(f"does not decode ({_first_words(error)})") from error


def thumbnail(picture: Image.Image) -> bytes:
    """A small copy of an RGB picture, encoded: a PNG where it is small already, else a WebP of at most 256 px."""
    buffer = BytesIO()
    if max(picture.size) <= THUMBNAIL_PIXELS // 2:
        picture.save(buffer, "PNG")
    else:
        small = picture.copy()
        small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS), reducing_gap=2.0)
        small.save(buffer, "WEBP", quality=82, method=2)
    return buffer.getvalue()


def thumbnail_of(path: Path) -> bytes | None:
    """The `thumbnail` of a picture in a file; None where it cannot be read."""
    try:
        return thumbnail(load_picture(open_picture(path)))
    except ImageError:
        return None


def _read(path: Path | None) -> bytes:
    if path is None:
        raise ImageError("its row names no image")
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device would be read for ever
            raise ImageError("is no file")
        if status.st_size > MAX_BYTES:
            raise ImageError(f"more than {MAX_BYTES >> 20} MiB")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # a NUL in a name is a ValueError
        raise ImageError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _first_words(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:100]
