"""Every target by its name."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from wire_fuzzing.images import images
from wire_fuzzing.requests import Requests
from wire_fuzzing.responses import Manifests, Records, Responses

Check = Callable[[bytes], None]
"""Takes one input; raises for what must not be."""


@dataclass(frozen=True)
class Target:
    """What makes it ready, for any number of inputs, and how many bytes of one are worth trying."""

    make: Callable[[], AbstractContextManager[Check]]
    longest: int


TARGETS = {
    "requests": Target(Requests, 4096),
    "responses": Target(Responses, 4096),
    "manifests": Target(Manifests, 2048),
    "records": Target(Records, 4096),
    "images": Target(lambda: nullcontext(images), 4096),
}
