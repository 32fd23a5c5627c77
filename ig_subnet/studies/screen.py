"""What a person sees of a study: a bar with rate and time left while it runs, and a table of the best at the end."""

from __future__ import annotations

import statistics
import time
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ig_subnet.studies.results import best_first, experts_of
from ig_subnet.studies.scoring import Outcome, Progress

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.table import Table

NAME_WIDTH = 44
PLAIN_SECONDS = 15.0  # between two lines where there is no terminal to draw a bar in
RATE_SECONDS = 30.0  # over which the rate is taken
SHOWN_ERRORS = 5


class Pace:
    """Images a second over the last while, from how many were scored at which time."""

    def __init__(self, now: float) -> None:
        self._samples = deque([(now, 0)])

    def at(self, now: float, scored: int) -> float:
        """The rate now that `scored` images are done; 0 before the first."""
        self._samples.append((now, scored))
        while len(self._samples) > 2 and now - self._samples[0][0] > RATE_SECONDS:
            self._samples.popleft()
        began, before = self._samples[0]
        return (scored - before) / (now - began) if now > began else 0.0


class Bar:
    """A bar on standard error. Without a terminal, a line now and then. To be used with `with`."""

    def __init__(self, total: int | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self._console = Console(stderr=True)
        self._bar = RichProgress(
            SpinnerColumn(),
            BarColumn(bar_width=36),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=total)
        self._said_at = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def print(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def show(self, text: str, completed: int, total: int | None) -> None:
        """How far it is, and what is said of that."""
        self._bar.update(self._task, total=total, completed=completed, description=text)
        now = time.monotonic()
        if self._bar.disable and now - self._said_at >= PLAIN_SECONDS:
            self._said_at = now
            self.print(text)


class ProgressBar(Bar):
    """The bar of a run of scoring: call it with each `Progress`."""

    def __init__(self, count: int | None) -> None:
        super().__init__(count)
        self._count = count
        self._pace = Pace(time.monotonic())

    def __call__(self, progress: Progress) -> None:
        rate = self._pace.at(time.monotonic(), progress.scored + progress.broken)
        self.show(describe(progress, self._count, rate), progress.seen, self._count)


def describe(progress: Progress, count: int | None, rate: float) -> str:
    """How far a run is, in words: "640 of 2,000 images, 33.1 a second, 0:41 left, 2 broken"."""
    parts = [_images(progress.seen) if count is None else f"{progress.seen:,} of {_images(count)}"]
    if rate > 0:
        parts.append(f"{rate:.1f} a second" if rate >= 1 else f"{1 / rate:.1f} s each")
        if count is not None:
            parts.append(f"{clock((count - progress.seen) / rate)} left")
    if before := progress.seen - progress.scored - progress.broken:
        parts.append(f"{before:,} scored before")
    if progress.broken:
        parts.append(f"{progress.broken:,} broken")
    return ", ".join(parts)


def score_table(results: pa.Table, top: int) -> Table:
    """A rich table of the `top` best images, then mean and deviation over all that were scored."""
    import pyarrow as pa
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    figures = ["incentive", "disagreement", "total", *experts_of(results)]
    one_prompt = len(results["prompt"].unique()) == 1
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("", justify="right")
    table.add_column("image", no_wrap=True)
    if not one_prompt:
        table.add_column("prompt", overflow="ellipsis", no_wrap=True, max_width=48)
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    order = best_first(results)
    for rank, row in enumerate(results.take(pa.array(order[:top], pa.int64())).to_pylist(), start=1):
        texts = [_ending(row["image"])] if one_prompt else [_ending(row["image"]), row["prompt"]]
        table.add_row(str(rank), *map(escape, texts), *(f"{row[name]:.4f}" for name in figures))
    if order:
        table.add_section()
        scored = {name: results[name].drop_null().to_pylist() for name in figures}
        blank = [] if one_prompt else [""]
        for label, figure in (("mean", statistics.fmean), ("deviation", statistics.pstdev)):
            cells = (f"{figure(scored[name]):.4f}" for name in figures)
            table.add_row("", f"{label} of {len(order):,}", *blank, *cells, style="dim")
    return table


def remarks(outcome: Outcome) -> list[str]:
    """Lines below the table: what was not scored and why, which prompts were cut, and how long it took."""
    results, progress = outcome.table, outcome.progress
    lines = []
    broken = results.filter(results["error"].is_valid()).select(["image", "error"])
    if broken.num_rows:
        lines.append(f"{broken.num_rows:,} of {results.num_rows:,} could not be scored:")
        lines += [f"  {row['image']}: {row['error']}" for row in broken.slice(0, SHOWN_ERRORS).to_pylist()]
        if broken.num_rows > SHOWN_ERRORS:
            lines.append(f"  and {broken.num_rows - SHOWN_ERRORS:,} more")
    for expert in experts_of(results):
        if cut := results[f"{expert}_truncated"].drop_null().to_pylist().count(True):
            lines.append(f"{expert} read only the beginning of the prompt of {_images(cut)}")
    before = progress.seen - progress.scored - progress.broken
    rate = progress.scored / outcome.seconds if outcome.seconds else 0.0
    lines.append(
        f"{_images(progress.scored)} in {outcome.seconds:.1f} s, {rate:.1f} a second"
        f" (waited {outcome.waited_seconds:.1f} s for images)"
        + (f"; {before:,} {'was' if before == 1 else 'were'} scored before" if before else "")
    )
    return lines


def _images(number: int) -> str:
    return f"{number:,} image" + ("" if number == 1 else "s")


def _ending(name: str) -> str:
    """The end of a long name, which tells more than its beginning."""
    return name if len(name) <= NAME_WIDTH else "…" + name[1 - NAME_WIDTH :]


def clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
