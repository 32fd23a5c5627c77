"""One decoder process: framed requests on stdin, framed replies on stdout, until stdin ends.

It imports Pillow and numpy only, can open no file and no connection, may not grow without bound, ends when an image
takes more of the processor than any image should, and is killed by its own alarm if its parent is no longer there to do
it. Framing is plain bytes: nothing that comes back from a process that has handled hostile data is unpickled.
"""

from __future__ import annotations

import resource
import signal
import struct
import sys
from typing import BinaryIO

from ig_subnet.imaging.decode import decode_image
from ig_subnet.imaging.errors import ImageError

REQUEST = struct.Struct(">8sIIQQd")
"""Format (padded with NUL), expected width and height, most pixels, bytes that follow, deadline in seconds."""
REPLY = struct.Struct(">?Q")
"""Whether it was decoded, bytes that follow: RGB pixels row by row, or the reason in UTF-8."""

MEMORY_BYTES = 2 << 30  # address space; an idle worker takes 0.2 GiB, decoding 4096 x 4096 another 0.2
PROCESSOR_SECONDS = 1.0  # for one image, whatever else the machine is busy with, ...
PROCESSOR_SECONDS_PER_PIXEL = 2e-6  # ... and so much more: the worst files known take 0.12 s for 1024 x 1024 pixels
ORPHAN_SECONDS = 1.0  # how much longer than the parent the worker waits before it ends itself


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))  # the three that are open
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # a library that prints must not break the framing
    _reply(replies, True, b"")  # ready
    while header := requests.read(REQUEST.size):
        format_name, width, height, max_pixels, length, deadline_seconds = REQUEST.unpack(header)
        data = requests.read(length)
        # Unhandled, so they end the process.
        signal.setitimer(signal.ITIMER_REAL, deadline_seconds + ORPHAN_SECONDS)
        signal.setitimer(signal.ITIMER_PROF, PROCESSOR_SECONDS + PROCESSOR_SECONDS_PER_PIXEL * max_pixels)
        try:
            pixels = decode_image(
                data,
                expected_format=format_name.rstrip(b"\0").decode("ascii"),
                expected_size=(width, height),
                max_pixels=max_pixels,
            )
        except ImageError as error:
            _reply(replies, False, error.reason.encode())
        else:
            _reply(replies, True, pixels.tobytes())
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)


def _reply(replies: BinaryIO, decoded: bool, payload: bytes) -> None:
    replies.write(REPLY.pack(decoded, len(payload)) + payload)
    replies.flush()


if __name__ == "__main__":
    main()
