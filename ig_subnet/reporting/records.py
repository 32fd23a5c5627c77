"""Tables of what a validator has on record: of all miners for its operator, of one for that miner."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ig_subnet.reporting.summary import write_text_atomically
from ig_subnet.reporting.tables import PLAIN_WIDTH
from ig_subnet.validating.explaining import Step
from ig_subnet.validating.inspection import Overview
from protocol import MinerRecord

if TYPE_CHECKING:
    from rich.table import Table

NONE = "·"
CHECKED = {True: "agrees", False: "[bold red]DOES NOT AGREE[/]", None: NONE}
SHOWN_PROMPT = 60  # characters


def overview_tables(overview: Overview) -> list[Table]:
    """Miners, rounds, images that a gate stopped, and attempts to set weights."""
    seen = f"the newest {len(overview.rounds)} rounds"
    miners = _table(
        f"{len(overview.miners)} miners, with their answers in {seen}",
        *("uid", "hotkey", "observations", "average", "limited", "share", "last round", "answers", "verdicts"),
    )
    for miner in overview.miners:
        absent = "" if miner.absent_since is None else f"not registered since {_time(miner.absent_since)}"
        miners.add_row(
            *(str(miner.uid), miner.hotkey, str(miner.observations), _figure(miner.average)),
            *(_figure(miner.limited), _figure(miner.share), str(miner.last_round)),
            *(f"{miner.answers}/{miner.queries}", _said(_counts(miner.verdicts), absent)),
        )
    rounds = _table(
        seen, "round", "began", "seconds", "block", "topic", "prompts", "answered", "best", "mean", "verdicts"
    )
    for view in overview.rounds:
        observed = list(view.observations.values())
        rounds.add_row(
            *(str(view.round.round_id), _time(view.round.started_at)),
            *(f"{view.round.finished_at - view.round.started_at:.1f}", str(view.round.block), _escape(view.topic)),
            *(str(view.prompts), f"{view.round.answered}/{view.round.queried}"),
            *(_figure(max(observed, default=None)), _figure(sum(observed) / len(observed) if observed else None)),
            _counts(view.verdicts),
        )
    stopped = _table(f"{len(overview.stopped)} images that a gate stopped", "image", "miner", "verdict", "evidence")
    for image in overview.stopped:
        stopped.add_row(
            f"{image.round_id}.{image.position}.{image.number}",
            *(image.hotkey, _escape(image.verdict), _escape(image.evidence or NONE)),
        )
    settings = _table(
        "attempts to set weights", "at", "block", "outcome", "paid", "what the chain said", "shares computed again"
    )
    for setting in overview.weight_settings:
        settings.add_row(
            *(_time(setting.at), str(setting.block), setting.outcome, str(len(setting.weights))),
            *(_escape(setting.detail), CHECKED[setting.agrees]),
        )
    return [miners, rounds, stopped, settings]


def record_tables(record: MinerRecord, steps: Sequence[Step]) -> list[Table]:
    """Why the miner has its weight, then its rounds, its images and the attempts to set weights."""
    why = _table(f"why {record.hotkey} has its weight", "step", "how", "computed again")
    for step in steps:
        why.add_row(step.name, _escape(step.text), CHECKED[step.agrees])
    rounds = _table(
        f"{len(record.rounds)} rounds" + ("" if record.older is None else f"; older ones: --before {record.older}"),
        *("round", "began", "block", "observation", "average", "answers", "verdicts"),
    )
    images = _table(
        "images",
        *("image", "prompt", "answer", "verdict", "incentive", "trust", "alignment", "unsafe", "experts (worst)"),
        "evidence",
    )
    for each in record.rounds:
        verdicts = Counter(image.verdict for answer in each.answers for image in answer.images)
        rounds.add_row(
            *(str(each.round_id), _time(each.started_at), str(each.block)),
            *(_figure(each.observation), _figure(each.average)),
            _counts(Counter(answer.status for answer in each.answers)),
            _counts(dict(verdicts.most_common())),
        )
        for answer in each.answers:
            prompt = _escape(_first(answer.prompt))
            said = _said(f"{answer.status} {answer.elapsed_seconds:.1f} s", _escape(answer.detail))
            if not answer.images:
                images.add_row(f"{each.round_id}.{answer.position}", prompt, said, *[NONE] * 7)
            for image in answer.images:
                experts = (
                    f"{name} {expert.score:.3f}" + ("" if expert.worst is None else f" ({expert.worst:.3f})")
                    for name, expert in sorted(image.experts.items())
                )
                images.add_row(
                    f"{each.round_id}.{answer.position}.{image.number}",
                    *(prompt, said, _escape(image.verdict), _figure(image.incentive)),
                    *(_figure(image.trust), _figure(image.alignment), _figure(image.unsafe)),
                    *(", ".join(experts) or NONE, _escape(image.evidence or NONE)),
                )
    weights = _table(
        "attempts to set weights",
        *("at", "block", "outcome", "uid", "average", "limited", "share", "what the chain said"),
    )
    for weight in record.weights:
        weights.add_row(
            *(_time(weight.at), str(weight.block), _escape(weight.outcome)),
            NONE if weight.uid is None else str(weight.uid),
            *(_figure(weight.average), _figure(weight.limited), _figure(weight.share), _escape(weight.detail)),
        )
    return [why, rounds, images, weights]


def show(content: Mapping[str, Any], tables: Iterable[Table], json_file: Path | None) -> None:
    """Prints the tables; or writes the content as JSON, to the terminal where the file is "-". Raises OSError."""
    from rich.console import Console

    if json_file is None:
        console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
        for table in tables:
            console.print(table)
    elif str(json_file) == "-":
        print(json.dumps(content, indent=2))
    else:
        write_text_atomically(json_file, json.dumps(content, indent=2) + "\n")


def _table(title: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=_escape(title), box=box.SIMPLE_HEAD, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in ("hotkey", "miner"))  # they are copied
    return table


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _figure(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _counts(counted: Mapping[str, int]) -> str:
    """As in "3 valid, 1 seen before"."""
    return ", ".join(f"{number} {_escape(name)}" for name, number in counted.items()) or NONE


def _said(*texts: str) -> str:
    return ", ".join(filter(None, texts))


def _first(prompt: str) -> str:
    line = " ".join(prompt.split())
    return line if len(line) <= SHOWN_PROMPT else line[: SHOWN_PROMPT - 1] + "…"
