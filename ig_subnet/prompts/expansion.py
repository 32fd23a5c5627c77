"""New prompts from old ones: the subject of one with modifiers of others, so that a known database is no known test.

Prompts for image models are written as a subject and modifiers with commas between them: "a lighthouse at dusk, oil
painting, (mist:1.2), highly detailed". Nothing is made up: what stands there already is put together anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from ig_subnet.prompts.choosing import Candidates, RetrievedPrompt, by_lot

MODIFIER_WORDS = 4  # a longer part says what is to be seen, more often than how
_MARK = re.compile(r"\\.|[,()\[\]{}<>]", re.DOTALL)  # behind a backslash a bracket is a letter
_WEIGHT = re.compile(r":\s*[\d.]+\s*(?=[)\]}>]|$)")
_NO_WORD = re.compile(r"[^\w\s]")


class ExpansionSettings(BaseModel):
    """The `expand` section of a prompter's configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    modifiers: int = Field(ge=1, le=16)
    """How many modifiers of other prompts a prompt gets, where so many fit."""


@dataclass(frozen=True)
class DrawnPrompt:
    """A prompt to be asked, as it stands in the database or made from one that does.

    `id`, `source`, `row` and `similarity` (the cosine to the topic) are of that one. `parents` are the ids of all the
    prompts that its words come from, that one first.
    """

    text: str
    topic: str
    similarity: float
    source: str
    row: int
    id: str
    parents: tuple[str, ...]

    @classmethod
    def of(cls, base: RetrievedPrompt, topic: str, text: str | None = None, donors: Sequence[str] = ()) -> DrawnPrompt:
        """`base` as it is, or the `text` made from it and from the prompts with the ids `donors`."""
        parents = (base.id, *donors)
        return cls(base.text if text is None else text, topic, base.similarity, base.source, base.row, base.id, parents)


def expand(
    chosen: RetrievedPrompt,
    candidates: Candidates,
    settings: ExpansionSettings,
    seed: bytes,
    fits: Callable[[str], bool],
) -> DrawnPrompt:
    """The subject of `chosen`, then modifiers of other candidates and its own in an order that the seed decides.

    Each new modifier comes from another prompt, and none is there twice, whatever its weight. Where not all `fits`, the
    prompt's own are left out first. A prompt to which nothing can be added stays as it is, and so does one with a
    bracket that is not closed: it would weigh what comes behind it.
    """
    unchanged = DrawnPrompt.of(chosen, candidates.topic.name)
    if not _is_balanced(chosen.text):
        return unchanged
    seed += chosen.id.encode()
    subject, *own = split(chosen.text)
    texts = {prompt.id: prompt.text for prompt in candidates.prompts if prompt.id != chosen.id}
    said = {_said(part) for part in (subject, *own)}
    added: dict[str, str] = {}  # new modifiers by the prompt that they come from

    def compose(*modifiers: str) -> str:
        return ", ".join([subject, *by_lot(modifiers, seed)])

    for donor in by_lot(texts, seed):
        if len(added) == settings.modifiers:
            break
        offered = [part for part in split(texts[donor])[1:] if _is_modifier(part) and _said(part) not in said]
        for modifier in by_lot(offered, seed):
            if fits(compose(*added.values(), modifier)):
                added[donor] = modifier
                said.add(_said(modifier))
                break
    if not added:
        return unchanged
    modifiers = list(added.values())
    said = {_said(subject)}
    for modifier in own:
        if _said(modifier) not in said and fits(compose(*modifiers, modifier)):
            modifiers.append(modifier)
            said.add(_said(modifier))
    text = compose(*modifiers)
    return DrawnPrompt.of(chosen, candidates.topic.name, text, tuple(added))


def split(prompt: str) -> list[str]:
    """The parts between commas, the subject first; what stands in brackets, as (mist, fog:1.2), is one part."""
    parts, start, depth = [], 0, 0
    for mark in _MARK.finditer(prompt):
        depth = max(0, depth + _step(mark[0]))
        if mark[0] == "," and depth == 0:
            parts.append(prompt[start : mark.start()])
            start = mark.end()
    parts.append(prompt[start:])
    return [stripped for part in parts if (stripped := part.strip())] or [prompt]


def _is_modifier(part: str) -> bool:
    return bool(_said(part)) and len(part.split()) <= MODIFIER_WORDS and _is_balanced(part)


def _is_balanced(part: str) -> bool:
    depth = 0
    for mark in _MARK.finditer(part):
        depth += _step(mark[0])
        if depth < 0:
            return False
    return depth == 0


def _step(mark: str) -> int:
    return 1 if mark in "([{<" else -1 if mark in ")]}>" else 0


def _said(part: str) -> str:
    """The words of a part, without weight, brackets and capitals: by these, two parts are the same."""
    return " ".join(_NO_WORD.sub(" ", _WEIGHT.sub("", part)).casefold().split())
