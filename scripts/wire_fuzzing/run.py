"""One target under atheris until libFuzzer's limits end it: python scripts/wire_fuzzing/run.py TARGET [ARGUMENT ...].

Started by scripts/fuzz_wire.py; atheris ends the process itself, so it has one of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris
from loguru import logger

sys.path.insert(0, str(Path(__file__).parents[1]))
# What decides by the bytes of a peer, where it is Python: coverage of llhttp and of Pillow's codecs, which are C, is
# not seen, and all that aiohttp adds is 2 s to the start.
with atheris.instrument_imports(include=["protocol", "ig_subnet.imaging", "uvicorn.protocols.http", "PIL", "json"]):
    from wire_fuzzing.targets import TARGETS


def main() -> None:
    name, *arguments = sys.argv[1:]
    logger.remove()
    logger.add(sys.stderr, level="ERROR")  # what nobody foresaw; the rest would be most of the work
    with TARGETS[name].make() as target:
        atheris.Setup([sys.argv[0], f"-max_len={TARGETS[name].longest}", *arguments], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
