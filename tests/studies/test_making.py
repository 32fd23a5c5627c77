"""The images of a study: made once, whatever ends the run, and a model that fails stops no other."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Sequence
from dataclasses import astuple, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_study import FACTS, Painter, study
from PIL import Image

from ig_subnet.studies.configuration import ModelSettings
from ig_subnet.studies.errors import ModelFailed, ResultsError
from ig_subnet.studies.folder import StudyFolder, StudyPrompt, open_study
from ig_subnet.studies.making import BLACK, SMALLER, WITHHELD, LoadedModel, make_images
from ig_subnet.studies.series import HOPELESS

PROMPTS = [StudyPrompt("cats", "a cat", number, f"cat {number}", f"id {number}") for number in range(3)]
DEADLINE_SECONDS = 120


def pictures(folder: StudyFolder) -> dict[str, bytes]:
    return {path.relative_to(folder.images).as_posix(): path.read_bytes() for path in folder.images.rglob("*.png")}


def test_images_and_their_metadata_are_an_image_folder(tmp_path: Path) -> None:
    import datasets

    painter = Painter()
    with open_study(tmp_path / "study", study("a", "b")) as folder:
        outcomes = make_images(folder, study("a", "b"), PROMPTS, load=painter.load)
    assert [(name, found.error, found.made) for name, found in outcomes.items()] == [("a", None, 6), ("b", None, 6)]
    assert painter.made[:6] == painter.made[6:], "the same seeds for every model"
    assert len({seed for _, seed in painter.made}) == 6, "and another one for every image"
    rows = pq.read_table(folder.metadata).to_pylist()
    assert [row["file_name"] for row in rows[:3]] == ["a/cats/0-0.png", "a/cats/0-1.png", "a/cats/1-0.png"]
    assert rows[2]["prompt"] == "cat 1" and (rows[2]["steps"], rows[2]["dtype"]) == (4, "float32")
    datasets.disable_progress_bars()
    read = datasets.load_dataset("imagefolder", data_dir=str(folder.images), split="train", cache_dir=str(tmp_path))
    assert read.num_rows == 12 and isinstance(read[0]["image"], Image.Image)
    assert {(row["model"], row["number"], row["sample"]) for row in read} == {
        (model, number, sample) for model in "ab" for number in range(3) for sample in range(2)
    }


@settings(max_examples=4, deadline=None)
@given(batch=st.integers(1, 7), ends=st.lists(st.integers(0, 3), max_size=3))
def test_a_study_that_was_cut_makes_no_image_twice(
    tmp_path_factory: pytest.TempPathFactory, batch: int, ends: list[int]
) -> None:
    path = tmp_path_factory.mktemp("cut")
    painter = Painter(batch=batch)
    for end in [*ends, None]:
        calls = iter(range(100))

        def act(prompts: Sequence[str], end: int | None = end, calls: object = calls) -> None:
            if next(calls) == end:  # type: ignore[call-overload]
                raise KeyboardInterrupt

        painter.act = act
        try:
            with open_study(path, study("a", "b")) as folder:
                make_images(folder, study("a", "b"), PROMPTS, load=painter.load)
        except KeyboardInterrupt:
            assert end is not None
    assert sorted(painter.made) == sorted(2 * sorted(set(painter.made))), "each once for each of two models"
    assert len(pictures(folder)) == 12


KILLED = """
import sys, time
from pathlib import Path
sys.path[:0] = {paths!r}
from made_up_study import Painter, study
from ig_subnet.studies.folder import StudyPrompt, open_study
from ig_subnet.studies.making import make_images
PROMPTS = [StudyPrompt(*fields) for fields in {prompts!r}]
painter = Painter(act=lambda prompts: time.sleep(0.02), batch=1)
with open_study(Path({out!r}), study("a", "b", images=20)) as folder:
    make_images(folder, study("a", "b", images=20), PROMPTS, load=painter.load)
"""


def test_a_killed_study_keeps_what_was_finished(tmp_path: Path, project_root: Path) -> None:
    paths = [str(project_root), str(project_root / "tests")]
    code = KILLED.format(paths=paths, prompts=[astuple(prompt) for prompt in PROMPTS], out=str(tmp_path / "study"))
    folder = StudyFolder(tmp_path / "study")
    kept: dict[str, bytes] = {}
    for wanted in (3, 40, 70):
        process = subprocess.Popen([sys.executable, "-c", code])
        deadline = time.monotonic() + DEADLINE_SECONDS
        while len(pictures(folder)) < wanted:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait(DEADLINE_SECONDS)
        found = pictures(folder)
        assert kept.items() <= found.items(), "nothing finished is lost or made again"
        kept = found
    painter = Painter()
    with open_study(folder.path, study("a", "b", images=20)) as folder:
        make_images(folder, study("a", "b", images=20), PROMPTS, load=painter.load)
    assert kept.items() <= pictures(folder).items()
    assert len(painter.made) == 120 - len(kept)
    assert pq.read_table(folder.metadata).num_rows == 120
    assert not list(folder.path.rglob("*.partial"))


def test_a_model_that_fails_stops_no_other(tmp_path: Path) -> None:
    painter = Painter()

    def load(model: ModelSettings, negative_prompt: str) -> LoadedModel:
        match model.name:
            case "missing":
                raise ModelFailed("there is no such model")
            case "strange":
                raise RuntimeError("a library's own words\nand more of them")
            case "large":
                raise MemoryError("50 GiB wanted")
            case "breaks":
                return replace(painter.load(model, ""), make=Painter(act=breaks).make)
        return painter.load(model, "")

    def breaks(prompts: Sequence[str]) -> None:
        if "cat 2" in prompts:
            raise ValueError("NaN")

    names = ("missing", "strange", "large", "breaks", "good")
    ended = []
    with open_study(tmp_path, study(*names)) as folder:
        outcomes = make_images(
            folder, study(*names), PROMPTS, load=load, ended=lambda name, outcome: ended.append((name, outcome.made))
        )
    errors = {name: outcome.error for name, outcome in outcomes.items()}
    assert errors["missing"] == "there is no such model"
    assert errors["strange"] == "it cannot be loaded: a library's own words"
    assert errors["large"] == f"it does not fit into memory: 50 GiB wanted; {SMALLER}"
    assert errors["breaks"] == "it makes no images: NaN"
    assert errors["good"] is None
    assert ended == [("missing", 0), ("strange", 0), ("large", 0), ("breaks", 4), ("good", 6)]
    assert json.loads(folder.models.read_text())["missing"]["error"] == errors["missing"]
    assert {row["model"] for row in pq.read_table(folder.metadata).to_pylist()} == {"breaks", "good"}


def test_a_model_is_gone_before_the_next_is_loaded(tmp_path: Path) -> None:
    class Weights:
        def __init__(self) -> None:
            self.pipeline = self  # in cycles, as pipelines are

        def make(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image | None]:
            if len(held) == 2:
                raise RuntimeError("broken")
            return list(Painter().make(prompts, seeds))

    held: list[weakref.ref[Weights]] = []

    def load(model: ModelSettings, negative_prompt: str) -> LoadedModel:
        assert [one() for one in held] == [None] * len(held)
        weights = Weights()
        held.append(weakref.ref(weights))
        return LoadedModel(FACTS, 4, weights.make)

    with open_study(tmp_path, study("a", "b", "c")) as folder:
        outcomes = make_images(folder, study("a", "b", "c"), PROMPTS, load=load)
    assert [outcome.error for outcome in outcomes.values()] == [None, "it makes no images: broken", None]
    assert [one() for one in held] == [None] * 3


def test_memory_that_runs_out_makes_batches_smaller(tmp_path: Path) -> None:
    sizes = []

    def act(prompts: Sequence[str]) -> None:
        sizes.append(len(prompts))
        if len(prompts) > most:
            raise MemoryError("no room")

    most = 1
    with open_study(tmp_path, study("a")) as folder:
        assert make_images(folder, study("a"), PROMPTS, load=Painter(act=act).load)["a"].made == 6
        assert sizes == [4, 2, 1, 1, 1, 1, 1, 1]
    most = 0
    with open_study(tmp_path, study("b")) as folder:
        error = make_images(folder, study("b"), PROMPTS, load=Painter(act=act).load)["b"].error
    assert error is not None and "out of memory with one image at a time: no room" in error


def test_images_that_did_not_come_out_are_told_and_not_tried_again(tmp_path: Path) -> None:
    painter = Painter()

    def load(model: ModelSettings, negative_prompt: str) -> LoadedModel:
        def make(prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image | None]:
            images = painter.make(prompts, seeds)
            spoilt = {"cat 0": None, "cat 1": Image.new("RGB", (8, 8))}
            return [spoilt.get(prompt, image) for prompt, image in zip(prompts, images, strict=True)]

        return replace(painter.load(model, ""), make=make)

    for _ in range(2):
        with open_study(tmp_path, study("a")) as folder:
            outcome = make_images(folder, study("a"), PROMPTS, load=load)["a"]
        assert (outcome.error, outcome.made, outcome.withheld) == (None, 2, 4)
    assert len(painter.made) == 6 and painter.loaded == ["a"]
    lines = [json.loads(line)["error"] for line in (folder.failed / "a.jsonl").read_text().splitlines()]
    assert lines == [WITHHELD, WITHHELD, BLACK, BLACK]
    assert sorted(pictures(folder)) == ["a/cats/2-0.png", "a/cats/2-1.png"]


def test_a_model_of_which_nothing_comes_is_given_up_early(tmp_path: Path) -> None:
    many = study("black", "good", images=20)
    made = []

    def load(model: ModelSettings, negative_prompt: str) -> LoadedModel:
        def make(prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image | None]:
            made.append(len(prompts))
            return [Image.new("RGB", (8, 8)) for _ in prompts]

        return LoadedModel(FACTS, 4, make if model.name == "black" else Painter().make)

    with open_study(tmp_path, many) as folder:
        outcomes = make_images(folder, many, PROMPTS, load=load)
        assert sum(made) == HOPELESS
        few = study("black", "good", images=1)
        none = make_images(folder, few, PROMPTS, load=load)["black"]
        assert none.error == f"none of its first 3 images came out: {BLACK}"
    assert outcomes["black"].error == f"none of its first {HOPELESS} images came out: {BLACK}"
    assert outcomes["good"].made == 60


def test_images_of_other_settings_never_mix(tmp_path: Path) -> None:
    one, other = study("a"), study("a").model_copy(update={"seed": 1})
    with open_study(tmp_path, one) as folder:
        make_images(folder, one, PROMPTS[:1], load=Painter().load)
        with pytest.raises(ResultsError, match="another run is writing to"), open_study(tmp_path, one):
            pass
    with pytest.raises(ResultsError, match="holds a study with another seed: give the same settings"):
        with open_study(tmp_path, other):
            pass
    steps = one.model_copy(update={"models": (one.models[0].model_copy(update={"steps": 9}),)})
    with pytest.raises(ResultsError, match="holds images of a with another steps"), open_study(tmp_path, steps):
        pass
    faster = one.model_copy(update={"models": (one.models[0].model_copy(update={"batch": 9}),)})
    with open_study(tmp_path, faster) as folder:
        half = Painter(facts=replace(FACTS, dtype="float16"))
        error = make_images(folder, one, PROMPTS, load=half.load)["a"].error
    assert error is not None and "its images so far are of another dtype ('float32', now 'float16')" in error
    with open_study(tmp_path, study("a", "b")) as folder:  # models may be added,
        assert make_images(folder, study("a", "b"), PROMPTS[:1], load=Painter().load)["b"].made == 2
    with open_study(tmp_path, study("b")):  # and left out
        assert json.loads(folder.settings.read_text())["models"].keys() == {"a", "b"}
    with pytest.raises(ResultsError, match="holds images of a with another steps"), open_study(tmp_path, steps):
        pass  # what was left out does not come back as something else


def test_nothing_but_the_studys_own_is_cleared_away(tmp_path: Path) -> None:
    foreign = tmp_path / "downloads" / "film.mp4.partial"
    foreign.parent.mkdir()
    foreign.write_bytes(b"half of it")
    with open_study(tmp_path, study("a")) as folder:
        make_images(folder, study("a"), PROMPTS, load=Painter().load)
    stale = folder.images / "a" / "cats" / "0-0.png.partial"
    stale.write_bytes(b"half of it")
    with open_study(tmp_path, study("a")):
        assert foreign.exists() and not stale.exists()
    foreign.unlink()


def test_an_image_that_was_cut_is_made_again(tmp_path: Path) -> None:
    painter = Painter()
    with open_study(tmp_path, study("a")) as folder:
        make_images(folder, study("a"), PROMPTS, load=painter.load)
        whole = pictures(folder)
        cut = folder.images / "a" / "cats" / "1-0.png"
        cut.write_bytes(cut.read_bytes()[:-20])
        make_images(folder, study("a"), PROMPTS, load=painter.load)
    assert pictures(folder) == whole and len(painter.made) == len(whole) + 1


def test_settings_that_nothing_was_made_by_yet_may_change(tmp_path: Path) -> None:
    with open_study(tmp_path, study("a")):
        pass
    with open_study(tmp_path, study("a").model_copy(update={"seed": 9})) as folder:
        assert json.loads(folder.settings.read_text())["seed"] == 9
    folder.images.mkdir()
    folder.settings.write_text("{}")
    with pytest.raises(ResultsError, match="not the settings of a study"), open_study(tmp_path, study("a")):
        pass


def test_a_full_disk_ends_the_study_with_one_clear_error(tmp_path: Path) -> None:
    with open_study(tmp_path, study("a")) as folder:
        (folder.images / "a").mkdir(parents=True)
        (folder.images / "a" / "cats").write_text("in the way")
        with pytest.raises(ResultsError, match=r"an image cannot be written: .*run again to go on"):
            make_images(folder, study("a"), PROMPTS, load=Painter().load)
