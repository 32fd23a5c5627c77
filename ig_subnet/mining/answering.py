"""The axon's handler: a synapse in, encoded images out, and one line in the log for each query."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from loguru import logger

from ig_subnet.mining.errors import UnsupportedSize
from ig_subnet.mining.worker import DeviceWorker
from protocol import Busy, GeneratedImage, TextToImageSynapse, Unsupported

if TYPE_CHECKING:
    from PIL.Image import Image

LOGGED_PROMPT_CHARACTERS = 80


class Answerer:
    """Answers queries with a worker's images, as PNG. `priority` ranks a caller's hotkey."""

    def __init__(self, worker: DeviceWorker, priority: Callable[[str], float]) -> None:
        self._worker = worker
        self._priority = priority

    async def __call__(self, synapse: TextToImageSynapse, caller: str) -> list[GeneratedImage]:
        """The images that could be made in time. Raises Busy and Unsupported."""
        started = time.perf_counter()
        try:
            made = await self._worker.generate(synapse, self._priority(caller))
        except Busy as busy:
            logger.warning("too busy for {}: told to come back in {:.1f} s", caller, busy.retry_after_seconds)
            raise
        except UnsupportedSize as error:
            logger.warning("refused {}: {}", caller, error)
            raise Unsupported(str(error)) from None
        if not made:
            logger.warning("refused {}: the model's safety checker withholds {}", caller, _shown(synapse.prompt))
            raise Unsupported("the model's safety checker withholds every image")
        # Encoding a large image takes as long as making one on a GPU; the device must not wait for it.
        encoded = [await asyncio.to_thread(_png, image) for _, image in made]
        logger.info(
            "answered {} (stake {:,.0f}): {} of {} images, {} x {}, in {:.2f} s: {}",
            caller,
            self._priority(caller),
            len(made),
            synapse.num_images,
            synapse.width,
            synapse.height,
            time.perf_counter() - started,
            _shown(synapse.prompt),
        )
        return [
            GeneratedImage("png", image.width, image.height, seed, self._worker.declaration, data)
            for (seed, image), data in zip(made, encoded, strict=True)
        ]


def _png(image: Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _shown(prompt: str) -> str:
    """A stranger's text on one line, cut: it must not forge lines of the log."""
    cut = prompt[:LOGGED_PROMPT_CHARACTERS]
    return ascii(cut) + ("..." if len(cut) < len(prompt) else "")
