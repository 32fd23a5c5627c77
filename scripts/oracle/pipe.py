"""The end of a pipe that answers: a JSON object a line in, a JSON object a line out.

A request names its operation in `op`, the rest are the operation's arguments; the reply has `"ok": true` and what the
operation returned, or `{"ok": false, "error": "ValueError: ..."}`. The end of the input ends the process. This file
imports nothing that an environment of its own might lack.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def serve(operations: Mapping[str, Callable[..., dict[str, Any]]]) -> None:
    """Answer requests until there are no more."""
    # Packages print what they like to standard output; the protocol keeps the real one for itself.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(answer(operations, json.loads(line))), file=replies, flush=True)


def answer(operations: Mapping[str, Callable[..., dict[str, Any]]], request: dict[str, Any]) -> dict[str, Any]:
    """The reply to one request; every failure is a reply too."""
    try:
        operation = operations[request.pop("op")]
        return {"ok": True, **operation(**request)}
    except Exception as error:
        return {"ok": False, "error": f"{type(error).__name__}: {error}"}


def reset_peak() -> None:
    """Linux forgets the highest resident memory so far; elsewhere the peak is that of the whole process."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> float:
    """Highest resident memory since `reset_peak`."""
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024
