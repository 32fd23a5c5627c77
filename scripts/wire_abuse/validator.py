"""A validator's dendrite behind standard input and output (oracle/pipe.py), in a process of its own.

    PYTHONPATH=scripts python -m wire_abuse.validator KEY

KEY is the URI of its hotkey. Targets are lists of hotkey, address and port; all of them are asked for an image of
512 x 512 pixels and `image_bytes` at once, once every `pause_seconds`.

    {"op": "ask", "targets": [[HOTKEY, "127.0.0.1", 8091]], "times": 30, "pause_seconds": 0.1, "deadline_seconds": 5.0,
        "image_bytes": 100000} -> {"answers": [{"target": 0, "status": "answered", "milliseconds": 3.1,
        "bytes": 100000}, ...]}; the target is its place in the list
    {"op": "begin"} -> {}, {"op": "usage"} -> {"peak_mib": 120.0, "grown_mib": 40.0, "cpu_seconds": 3.1} since then
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from loguru import logger
from oracle.pipe import serve
from wire_benchmark.ours import SIDE, signer_of
from wire_benchmark.usage import Usage

from ig_subnet.chain.auth import BtAuthVerifier
from protocol import Dendrite, Target, TextToImageSynapse


class Validator:
    """Asks, and tells how it ended. Its dendrite opens new connections for every request of it."""

    def __init__(self, uri: str) -> None:
        self._signer = signer_of(uri)
        self._verifier = BtAuthVerifier(self._signer.hotkey)

    def ask(
        self,
        targets: list[tuple[str, str, int]],
        times: int,
        pause_seconds: float,
        deadline_seconds: float,
        image_bytes: int,
    ) -> dict[str, Any]:
        synapse = TextToImageSynapse(
            prompt="a lighthouse on a cliff at dusk, oil on canvas",
            width=SIDE,
            height=SIDE,
            seed=image_bytes,
            deadline_seconds=deadline_seconds,
        )
        answers = asyncio.run(self._ask([Target(*target) for target in targets], synapse, times, pause_seconds))
        return {"answers": answers}

    async def _ask(
        self, targets: list[Target], synapse: TextToImageSynapse, times: int, pause_seconds: float
    ) -> list[dict[str, Any]]:
        async with Dendrite(self._signer, self._verifier, allow_private=True) as dendrite:

            async def one(place: int) -> dict[str, Any]:
                began = time.perf_counter()
                result = await dendrite.query(targets[place], synapse)
                milliseconds = 1000 * (time.perf_counter() - began)
                size = sum(len(image.data) for image in result.images)
                return {"target": place, "status": result.status, "milliseconds": milliseconds, "bytes": size}

            async def everybody(after_seconds: float) -> list[dict[str, Any]]:
                await asyncio.sleep(after_seconds)
                return await asyncio.gather(*(one(place) for place in range(len(targets))))

            rounds = await asyncio.gather(*(everybody(number * pause_seconds) for number in range(times)))
            return [answer for answers in rounds for answer in answers]


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python -m wire_abuse.validator KEY", file=sys.stderr)
        return 2
    logger.remove()
    validator, usage = Validator(sys.argv[1]), Usage()
    serve({"ask": validator.ask, "begin": usage.begin, "usage": usage.read})
    return 0


if __name__ == "__main__":
    sys.exit(main())
