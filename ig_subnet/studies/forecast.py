"""How far a whole study is, models and scores together, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ig_subnet.studies.scoring import Progress
from ig_subnet.studies.screen import Bar, clock


@dataclass
class Part:
    """Images to be made by one model, or to be scored; `cost` of one is relative to those of other parts."""

    count: int
    cost: float | None = None
    settled: int = 0
    timed: int = 0
    seconds: float = 0.0


class Forecast:
    """Parts of a study by name. Of a part without a `cost` nothing is known until some of it was timed."""

    def __init__(self, parts: dict[str, Part]) -> None:
        self.parts = parts

    def add(self, name: str, images: int, seconds: float) -> None:
        """So many more images of a part are settled; 0 seconds for what was settled before this run."""
        part = self.parts[name]
        part.settled += images
        if seconds > 0:
            part.timed += images
            part.seconds += seconds

    def seconds_left(self) -> float | None:
        """Of the whole, as far as can be known; None before anything was timed."""
        timed = [part for part in self.parts.values() if part.timed]
        if not timed:
            return None
        priced = [part for part in timed if part.cost is not None]
        work = sum(part.timed * part.cost for part in priced if part.cost is not None)
        second_per_cost = sum(part.seconds for part in priced) / work if work else 0.0
        return sum(
            (part.count - part.settled)
            * (part.seconds / part.timed if part.timed else (part.cost or 0.0) * second_per_cost)
            for part in self.parts.values()
        )


class StudyBar(Bar):
    """The bar of a whole study."""

    def __init__(self, forecast: Forecast) -> None:
        super().__init__()
        self.forecast = forecast

    def give_up(self, name: str) -> None:
        """Nothing more will come of a part."""
        self.forecast.parts[name].count = self.forecast.parts[name].settled

    def follow(self, name: str) -> Callable[[Progress], None]:
        """What is to be called with each `Progress` of a run of scoring: adds it to a part."""
        last, at = Progress(), time.monotonic()

        def add(now: Progress) -> None:
            nonlocal last, at
            before, at = at, time.monotonic()
            new = now.scored + now.broken - last.scored - last.broken
            self.add(name, now.seen - last.seen - new, 0.0)
            self.add(name, new, at - before if new else 0.0)
            last = now

        return add

    def say(self, text: str) -> None:
        """What is being done now that is not counted."""
        self._bar.update(self._task, description=text)

    def add(self, name: str, images: int, seconds: float) -> None:
        """So many more images of a part are settled."""
        self.forecast.add(name, images, seconds)
        parts = self.forecast.parts.values()
        self.show(describe(self.forecast, name), sum(part.settled for part in parts), sum(part.count for part in parts))


def describe(forecast: Forecast, name: str) -> str:
    """Where a study is: "sdxl: 120 of 2,000, 0.8 a second; 1:12:40 left in all"."""
    part = forecast.parts[name]
    text = f"{name}: {part.settled:,} of {part.count:,}"
    if part.timed:
        rate = part.timed / part.seconds
        text += f", {rate:.1f} a second" if rate >= 1 else f", {1 / rate:.1f} s each"
    left = forecast.seconds_left()
    return text if left is None else f"{text}; {clock(left)} left in all"
