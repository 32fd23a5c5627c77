"""What a miner declares of the model behind an image: the text in the `model` field of the manifest.

    declaration = model [" steps:" count] [" guidance:" scale] [" scheduler:" name]

A model alone, as miners of before this grammar send it, is a declaration too. It tells too little to make the image
again, as does any text that is not of this form, such as one with settings of a later version. The number format is
left out: it moves an image less than declarations are held to (docs/regeneration.md).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["MAX_DECLARATION", "Declaration"]

MAX_DECLARATION = 128
"""Characters that the manifest has room for."""

_FORM = re.compile(
    r"(?P<model>[A-Za-z0-9._@/+-]+)"
    r"(?: steps:(?P<steps>[1-9][0-9]{0,3}))?"
    r"(?: guidance:(?P<guidance>[0-9]{1,3}(?:\.[0-9]{1,6})?))?"
    r"(?: scheduler:(?P<scheduler>[a-z0-9_+]+))?"
)


@dataclass(frozen=True)
class Declaration:
    """A model and how it was run. `steps` is None where that is not told, the others where they are the model's own.

    `model` is a name without spaces, `steps` counts denoising steps (1 to 9999), `guidance` is the guidance scale (0 to
    999.999999), `scheduler` the sampler's name.
    """

    model: str
    steps: int | None = None
    guidance: float | None = None
    scheduler: str | None = None

    @classmethod
    def parse(cls, text: str) -> Declaration | None:
        """What a peer's text declares; None where it is not of this form."""
        found = _FORM.fullmatch(text)
        if found is None:
            return None
        steps, guidance = found["steps"], found["guidance"]
        return cls(
            found["model"], int(steps) if steps else None, float(guidance) if guidance else None, found["scheduler"]
        )

    def __str__(self) -> str:
        """The text for the manifest; the model alone, cut if need be, where all of it has no room there."""
        guidance = None if self.guidance is None else f"{self.guidance:.6f}".rstrip("0").rstrip(".")
        settings = {"steps": self.steps, "guidance": guidance, "scheduler": self.scheduler}
        told = [f"{name}:{value}" for name, value in settings.items() if value is not None]
        text = " ".join([self.model, *told])
        return text if len(text) <= MAX_DECLARATION else self.model[:MAX_DECLARATION]
