"""Images from strangers: decoded safely, in processes that can be killed. Imports Pillow and numpy, nothing heavier."""

from __future__ import annotations

from ig_subnet.imaging.decode import decode_image
from ig_subnet.imaging.errors import DecoderError, DecoderKilled, ImageError
from ig_subnet.imaging.fingerprints import fingerprint
from ig_subnet.imaging.pool import DecoderPool

__all__ = ["DecoderError", "DecoderKilled", "DecoderPool", "ImageError", "decode_image", "fingerprint"]
