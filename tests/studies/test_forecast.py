"""How long a study will take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ig_subnet.studies.forecast import Forecast, Part, StudyBar, describe
from ig_subnet.studies.scoring import Progress


def test_what_was_not_tried_yet_is_guessed_from_its_steps() -> None:
    forecast = Forecast({"slow": Part(10, 20), "quick": Part(10, 2), "scores": Part(20)})
    assert forecast.seconds_left() is None
    forecast.add("slow", 4, 0.0)  # made before this run
    forecast.add("slow", 2, 40.0)
    assert forecast.seconds_left() == pytest.approx(4 * 20 + 10 * 2)
    assert describe(forecast, "slow") == "slow: 6 of 10, 20.0 s each; 1:40 left in all"
    forecast.add("quick", 10, 5.0)
    forecast.add("slow", 4, 80.0)
    assert forecast.seconds_left() == 0, "nobody knows yet how long scoring takes"
    forecast.add("scores", 10, 1.0)
    assert describe(forecast, "scores") == "scores: 10 of 20, 10.0 a second; 0:01 left in all"


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "scores"]), st.integers(1, 5), st.floats(0, 100))))
def test_time_left_is_never_negative_and_ends_at_none_left(steps: list[tuple[str, int, float]]) -> None:
    forecast = Forecast({"a": Part(1000, 20), "b": Part(1000, 5), "scores": Part(1000)})
    for name, images, seconds in steps:
        forecast.add(name, images, seconds)
        left = forecast.seconds_left()
        assert left is None or left >= 0
    for name, part in forecast.parts.items():
        forecast.add(name, part.count - part.settled, 1.0)
    assert forecast.seconds_left() == 0


def test_the_bar_follows_scoring_and_says_what_stays(capsys: pytest.CaptureFixture[str]) -> None:
    forecast = Forecast({"a": Part(8, 1), "scores": Part(4)})
    with StudyBar(forecast) as bar:
        follow = bar.follow("scores")
        follow(Progress(seen=2, scored=0, broken=0))
        follow(Progress(seen=4, scored=1, broken=1))
        bar.add("a", 3, 1.0)
        bar.give_up("a")
        bar.print("a failed: [why]")
    assert (forecast.parts["scores"].settled, forecast.parts["scores"].timed) == (4, 2)
    assert forecast.parts["a"].count == 3
    assert "a failed: [why]" in capsys.readouterr().err
