"""What the gates stopped, counted by miner and reason, and how their evidence reads."""

from __future__ import annotations

from collections import Counter

from made_up_rounds import make_round

from ig_subnet.reporting.history import Answer, History, ScoredImage
from ig_subnet.reporting.refusals import MOST_REASONS, OTHER_REASONS, describe_evidence, reasons_of, refusals_by_miner
from ig_subnet.validating.records import COPY, VALID, ImageRow


def history(*verdicts: tuple[str, str]) -> History:
    """Of images with these hotkeys and verdicts."""
    row = make_round(1).answers[0]
    images = [ImageRow(1, 0, hotkey, 0, "", "png", 64, 64, 1, verdict, None, 0.0) for hotkey, verdict in verdicts]
    answers = tuple(Answer(row, (ScoredImage(image, {}),)) for image in images)
    return History((), (), answers, (), ())


def test_images_are_counted_by_miner_and_reason() -> None:
    found = refusals_by_miner(history(("a", VALID), ("a", COPY), ("a", COPY), ("a", "too large"), ("b", VALID)))
    assert (found["a"].images, found["a"].stopped) == (4, Counter({COPY: 2, "too large": 1}))
    assert (found["b"].images, found["b"].stopped) == (1, Counter())
    assert (found["a"].share, found["b"].share) == (0.75, 0.0)
    assert refusals_by_miner(history()) == {}


def test_the_rarest_reasons_are_counted_together() -> None:
    reasons = [("a", f"reason {number}") for number in range(MOST_REASONS + 2) for _ in range(20 - number)]
    refusals = refusals_by_miner(history(*reasons, ("b", "reason 0")))
    stopped = refusals["a"].stopped
    assert reasons_of(refusals.values()) == [*(f"reason {number}" for number in range(MOST_REASONS)), OTHER_REASONS]
    assert stopped["reason 0"] == 20
    assert stopped[OTHER_REASONS] == (20 - MOST_REASONS) + (19 - MOST_REASONS)


def test_evidence_reads_as_a_line() -> None:
    like = '{"like": {"round_id": 4, "position": 1, "hotkey": "5Abc", "number": 2}, "bits": 3, "cosine": 0.98765}'
    assert describe_evidence(like, {"5Abc": "copier"}) == (
        "like image 2 of copier (round 4, prompt 1), bits 3, cosine 0.988"
    )
    assert describe_evidence(like, {}).startswith("like image 2 of 5Abc (round 4")
    checked = '{"checked": {"number": 0, "model": "pocket", "cosine": null, "matches": false}}'
    assert describe_evidence(checked, {}) == "number 0, model pocket, cosine None, matches False"
    assert describe_evidence(None, {}) == ""
