"""One reward model behind standard input and output: a JSON object a line in, a JSON object a line out.

    PYTHONPATH=scripts python -m oracle.serve MODULE

MODULE has a function `load(expert, weights, dtype, device) -> Scorer`: `oracle.authors` and `oracle.port` run reference
packages, each in an environment of its own (requirements-*.txt), `rewards_benchmark.ours` and
`rewards_benchmark.original` run in the project's. This file imports nothing that such an environment might lack.

    {"op": "load", "expert": "pick_score", "weights": DIRECTORY, "dtype": "float32", "device": "cpu"}
    -> {"ok": true, "name": "transformers 4.55.4", "seconds": 9.1, "peak_mib": 4100.0}
    {"op": "score", "images": [FILE, ...], "prompt": "a red boat"}
    -> {"ok": true, "scores": [...], "seconds": 0.9, "decoding_seconds": 0.01, "preprocessing_seconds": 0.02,
        "peak_mib": 4300.0, "device_peak_mib": 0.0}
    anything that fails -> {"ok": false, "error": "ValueError: ..."}

Images are opened before the clock of `seconds` starts; preprocessing is part of it, and timed again by itself. Peaks
are resident memory since the operation began. The end of the input ends the process.
"""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path
from typing import Any, Protocol

from oracle.pipe import peak_mib, reset_peak, serve
from PIL import Image


class Scorer(Protocol):
    """A loaded reward model. `name` says whose code it is, with its version."""

    name: str

    def score(self, images: list[Image.Image], prompt: str) -> list[float]:
        """One score an image, as that code computes it."""
        ...

    def prepare(self, images: list[Image.Image]) -> object:
        """Everything that `score` does to the images before a model sees them."""
        ...


class Server:
    """Answers requests with the loader of one module."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.scorer: Scorer | None = None
        self.device = "cpu"

    def load(self, expert: str, weights: str, dtype: str, device: str) -> dict[str, Any]:
        self.scorer, self.device = None, device  # frees the previous one first
        reset_peak()
        began = time.perf_counter()
        self.scorer = importlib.import_module(self.module).load(expert, Path(weights), dtype, device)
        return {"name": self.scorer.name, "seconds": time.perf_counter() - began, "peak_mib": peak_mib()}

    def score(self, images: list[str], prompt: str) -> dict[str, Any]:
        if self.scorer is None:
            raise RuntimeError("nothing is loaded yet")
        reset_peak()
        began = time.perf_counter()
        opened = [_open(file) for file in images]
        decoded = time.perf_counter()
        scores = self.scorer.score(opened, prompt)
        scored = time.perf_counter()
        peak, device_peak = peak_mib(), self._device_peak_mib()
        prepare_began = time.perf_counter()
        self.scorer.prepare(opened)
        return {
            "scores": [float(score) for score in scores],
            "seconds": scored - decoded,
            "decoding_seconds": decoded - began,
            "preprocessing_seconds": time.perf_counter() - prepare_began,
            "peak_mib": peak,
            "device_peak_mib": device_peak,
        }

    def _device_peak_mib(self) -> float:
        """Memory allocated on the accelerator since the last call, at its highest; 0 on the CPU."""
        if not self.device.startswith("cuda"):
            return 0.0
        import torch

        peak = torch.cuda.max_memory_allocated() / 2**20
        torch.cuda.reset_peak_memory_stats()
        return peak


def _open(file: str) -> Image.Image:
    """The image in the mode its file has, decoded."""
    with Image.open(file) as image:
        image.load()
    return image


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python -m oracle.serve MODULE", file=sys.stderr)
        return 2
    server = Server(sys.argv[1])
    serve({"load": server.load, "score": server.score})
    return 0


if __name__ == "__main__":
    sys.exit(main())
