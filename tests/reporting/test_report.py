"""The report: what is on it, that it needs nothing else, and that what peers wrote stays text."""

from __future__ import annotations

import base64
import dataclasses
import re
from pathlib import Path

import pytest
from html_page import Page
from PIL import Image

from ig_subnet.reporting.history import History, read_history
from ig_subnet.reporting.html import GALLERY_PROMPTS, Run, image_uri, render_report, write_report
from ig_subnet.reporting.prompts import committed_rounds, write_commitments
from ig_subnet.reporting.summary import Summary
from ig_subnet.validating.commitments import from_lines
from ig_subnet.validating.store import ScoreStore


@pytest.fixture(scope="module")
def page(run: Run) -> Page:
    return Page(render_report(run))


def test_every_part_is_there(page: Page, run: Run) -> None:
    text = " ".join(" ".join(page.text).split())
    for heading in ("The flow", "Miners", "Moving averages", "On the chain", "Gallery", "Epochs that paid"):
        assert heading in text
    for stage in ("prompt", "synapse", "axon", "generator", "images", "gates", "experts", "mixture", "moving average"):
        assert stage in page.text
    for miner in run.summary.miners:
        assert any(miner.hotkey == code.get("title") for code in page.named("code"))
        assert f"{miner.incentive:.4f}" in page.text
    assert "pick_score" in page.text
    assert "clip_aesthetic" in page.text
    assert text.index("pocket-20") < text.index("pocket-2 ") < text.index("pocket-1 ") < text.index("noise")
    assert len(page.named("svg")) == 4
    assert len(page.named("article")) == GALLERY_PROMPTS


def test_gallery_shows_images_reasons_and_silence(page: Page) -> None:
    assert page.text.count("duplicate within the answer") == 2  # in the table of the gates, and below the picture
    assert "like image 0 of pocket-1 (round 1, prompt 0), bits 3, cosine 0.988" in page.text
    assert any("timeout: no answer in 10 s <b>" in text for text in page.text)
    images = page.named("img")
    assert images
    for image in images:
        kind, data = str(image["src"]).split(",", 1)
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data, validate=True).startswith(b"\x89PNG")


def test_what_was_committed_is_shown_and_checked(page: Page, run: Run) -> None:
    text = " ".join(" ".join(page.text).split())
    *revealed, next_one = run.history.commitments
    rounds = len(run.history.rounds)
    assert text.count("✓") == len(revealed) == rounds + 1 and "✗" not in text
    assert text.count("✓ asked") == rounds and text.count("✓ void") == 1
    assert "not revealed yet" in text and next_one.head in text
    titles = {str(code.get("title")) for code in page.named("code")}
    assert titles >= {commitment.digest for commitment in run.history.commitments}
    assert "of 2 prompts" in text
    fresh = [f"{miner.role} 28 16 12 57%" for miner in run.summary.ranking]  # by hand: 14 once and 2 seven times
    assert all(line in text for line in fresh)


def test_a_plan_that_is_not_revealed_is_nowhere(store_path: Path, page: Page, tmp_path: Path) -> None:
    with ScoreStore.open(store_path) as store:
        hidden = store.unrevealed_commitment()
        history = read_history(store_path)
    assert hidden is not None and hidden.secret and hidden.content and hidden.digest in page.source
    write_commitments(tmp_path / "commitments.jsonl", history.commitments)
    written = (tmp_path / "commitments.jsonl").read_text()
    assert from_lines(written) == list(history.commitments)
    for told in (page.source, written):
        assert hidden.secret not in told
        assert f"take {hidden.round_id}" in hidden.content and f"take {hidden.round_id}" not in told


def test_what_was_asked_otherwise_is_marked(run: Run) -> None:
    history = run.history
    other = tuple(
        dataclasses.replace(prompt, text="a blue circle") if (prompt.round_id, prompt.position) == (2, 1) else prompt
        for prompt in history.prompts
    )
    third = dataclasses.replace(history.commitments[2], secret="00" * 32)
    commitments = (*history.commitments[:2], third, *history.commitments[3:])
    changed = dataclasses.replace(history, prompts=other, commitments=commitments)
    faults = {row.commitment.id: row.fault for row in committed_rounds(changed) if row.fault is not None}
    assert faults == {2: "the prompts on record are others", 3: "its digest is not that of its secret and content"}
    text = " ".join(Page(render_report(dataclasses.replace(run, history=changed))).text)
    assert text.count("✗") == 2
    assert "what is revealed is not what was committed" in text


def test_what_a_peer_wrote_stays_text(page: Page) -> None:
    assert not page.named("script")
    assert not page.named("b") or all(not attributes for attributes in page.named("b"))
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert any("<script>alert(1)</script>" in text and "{{ 7*7 }}" in text for text in page.text)


def test_it_needs_nothing_else(run: Run) -> None:
    text = render_report(run)
    page = Page(text)
    assert not page.named("link")
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            assert str(attributes.get(name, "data:")).startswith(("data:", "#"))
    policy = next(meta["content"] for meta in page.named("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none'")
    assert "prefers-color-scheme: dark" in text


def test_a_run_without_rounds_is_a_page_too(run: Run, tmp_path: Path) -> None:
    idle = [
        miner.model_copy(update={"queries": 0, "answers": 0, "reward": 0.0, "moving_average": 0.0})
        for miner in run.summary.miners
    ]
    empty = Run(
        summary=Summary(netuid=1, rounds=0, epochs=0, seconds=3.0, miners=tuple(idle), versions={}),
        history=History((), (), (), (), ()),
    )
    write_report(tmp_path / "report.html", empty)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "No round was finished." in page.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html"]


def test_many_miners_and_nobody(run: Run) -> None:
    many = tuple(run.summary.miners[0].model_copy(update={"uid": uid, "hotkey": f"5{uid:047d}"}) for uid in range(20))
    for miners in (many, ()):
        Page(render_report(dataclasses.replace(run, summary=run.summary.model_copy(update={"miners": miners}))))


def test_large_images_are_shown_small(tmp_path: Path) -> None:
    Image.effect_noise((900, 600), 60).convert("RGB").save(tmp_path / "aa.webp")
    uri = image_uri(tmp_path, "aa")
    assert uri is not None
    assert uri.startswith("data:image/jpeg;base64,")
    assert len(uri) < 100_000


def test_images_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "bb.png").write_bytes(b"<svg onload=alert(1)>")
    Image.new("RGB", (8, 8)).save(tmp_path / "cc.gif")
    (tmp_path / "cc.gif").rename(tmp_path / "cc.png")  # a format that no miner may send
    assert [image_uri(tmp_path, name) for name in ("aa", "bb", "cc")] == [None, None, None]
