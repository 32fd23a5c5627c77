"""What can go wrong with an image.

ImageError      the image is refused; `reason` says why in a few words, none of them the sender's
DecoderKilled   an ImageError: it took a decoder process with it
DecoderError    this machine cannot decode at all; no sender is to blame
"""

from __future__ import annotations


class ImageError(Exception):
    """An image that is refused, whoever sent it; its sender earns nothing for it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class DecoderKilled(ImageError):
    """An image that used up a decoder's time or ended it; whatever else its sender sent should not get another."""


class DecoderError(Exception):
    """The decoder processes do not start, or are closed: a fault of this machine, to be repaired here."""
