"""A study's prompts, and the scores of its images: each topic with its own weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from made_up_study import FACTS, study
from PIL import Image

from ig_subnet.prompts import Candidates, DrawnPrompt, RetrievedPrompt, Topic
from ig_subnet.rewards import Mixture
from ig_subnet.studies.configuration import ModelSettings, StudySettings, parse_study
from ig_subnet.studies.errors import ResultsError, SettingsError, SourceError
from ig_subnet.studies.folder import StudyPrompt, open_study
from ig_subnet.studies.judging import finished_series, score_images
from ig_subnet.studies.making import WITHHELD, LoadedModel, make_images
from ig_subnet.studies.prompting import find_prompts, prompter_section, read_prompts, write_prompts
from ig_subnet.studies.results import read_results, scored_with
from ig_subnet.studies.scoring import Progress

PROMPTS = [
    StudyPrompt(topic, "a text", number, f"{topic} {number}", "") for topic in ("dim", "cats") for number in (0, 1)
]


def load(model: ModelSettings, negative_prompt: str) -> LoadedModel:
    """Light or dark images; of the prompt `cats 1` the dark model makes none, and the failing one stops there."""

    def make(prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image | None]:
        if model.name == "failing" and "cats 1" in prompts:
            raise RuntimeError("broken")
        image = Image.new("RGB", (8, 8), (200,) * 3 if model.name == "light" else (50,) * 3)
        return [None if (model.name, prompt) == ("dark", "cats 1") else image for prompt in prompts]

    return LoadedModel(FACTS, 1, make)


def test_every_image_of_the_finished_models_has_a_row(tmp_path: Path, mixture: Mixture) -> None:
    settings = study("light", "failing", "dark")
    told: list[Progress] = []
    with open_study(tmp_path, settings) as folder:
        make_images(folder, settings, PROMPTS, load=load)
        series = finished_series(folder, settings, PROMPTS)
        score_images(folder, series, mixture, batch_size=3, progress=told.append)
        table = read_results(folder.scores)
        rows = table.to_pylist()
        again = score_images(folder, series, mixture, batch_size=3)
    assert again.equals(table), "nothing is scored twice, and nothing changes"
    assert [(row["model"], row["topic"], row["number"], row["sample"]) for row in rows] == [
        (model, topic, number, sample)
        for topic in ("dim", "cats")
        for model in ("light", "dark")
        for number in (0, 1)
        for sample in (0, 1)
    ]
    assert rows[0]["image"] == "light/dim/0-0.png" and rows[0]["brightness"] == pytest.approx(200 / 25.5)
    assert (rows[0]["total"] / rows[0]["brightness"], rows[8]["total"] / rows[8]["brightness"]) == pytest.approx(
        (0.1, 0.5)
    )
    withheld = [row for row in rows if row["error"] is not None]
    assert [row["image"] for row in withheld] == ["dark/cats/1-0.png", "dark/cats/1-1.png"]
    assert all(row["error"] == WITHHELD and row["incentive"] is None for row in withheld)
    assert scored_with(table)["weights"] == {"dim": {"brightness": 0.1}, "cats": {"brightness": 0.5}}
    assert (told[-1].seen, told[-1].scored, told[-1].broken) == (16, 14, 2)


def test_scores_want_images_and_stay_with_their_mixture(tmp_path: Path, mixture: Mixture) -> None:
    settings = study("light")
    with open_study(tmp_path, settings) as folder:
        with pytest.raises(SourceError, match=r"no model has all its images .*: run --stage images, and see"):
            score_images(folder, finished_series(folder, settings, PROMPTS), mixture, batch_size=3)
        make_images(folder, settings, PROMPTS, load=load)
        series = finished_series(folder, settings, PROMPTS)
        score_images(folder, series, mixture, batch_size=3)
        mixture.topics = {"dim": {"brightness": 0.2}}
        with pytest.raises(ResultsError, match="made with another weights"):
            score_images(folder, series, mixture, batch_size=3)


# --- prompts


class Nearest:
    """A prompter of ten prompts, which draws every other one and says of what seed."""

    def __init__(self, topics: Sequence[Topic]) -> None:
        self.topics = topics

    def candidates(self, topic: Topic) -> Candidates:
        import numpy as np

        found = [RetrievedPrompt(f"id {n}", f"{topic.name} {n}", 1 - n / 10, n, "made up", "MIT") for n in range(10)]
        return Candidates(topic, 10, tuple(found), np.eye(10, dtype=np.float32))

    def draw(self, candidates: Candidates, n: int, uses: object, seed: bytes) -> list[DrawnPrompt]:
        drawn = [DrawnPrompt.of(prompt, candidates.topic.name) for prompt in candidates.prompts[::2]]
        return [DrawnPrompt(**{**vars(one), "text": f"{one.text} of {seed.decode()}"}) for one in drawn][:n]


def prompts_of(settings: StudySettings) -> list[StudyPrompt]:
    return find_prompts(Nearest(settings.topics or ()), settings)  # type: ignore[arg-type]


def test_prompts_are_drawn_or_the_nearest(tmp_path: Path) -> None:
    topics = [{"name": "cats", "text": "a cat"}, {"name": "dogs", "text": "a dog"}]
    content = {"models": ["pocket"], "topics": topics, "prompts_per_topic": 2, "seed": 5}
    drawn = prompts_of(parse_study(content))
    assert [prompt.prompt for prompt in drawn[:2]] == ["cats 0 of study 5", "cats 2 of study 5"]
    nearest = prompts_of(parse_study({**content, "prompts": "nearest"}))
    assert nearest[3] == StudyPrompt("dogs", "a dog", 1, "dogs 1", "id 1")
    write_prompts(tmp_path / "prompts.parquet", nearest)
    assert read_prompts(tmp_path / "prompts.parquet") == nearest
    with pytest.raises(SettingsError, match="topic cats has 10 prompts, not 11: give fewer --prompts-per-topic"):
        prompts_of(parse_study({**content, "prompts_per_topic": 11}))
    with pytest.raises(SourceError, match=r"there are no prompts .*: run --stage prompts first"):
        read_prompts(tmp_path / "none.parquet")


def test_the_profiles_prompter_is_asked_for_the_studys_topics() -> None:
    settings = study("a").model_copy(update={"prompts_per_topic": 300, "prompts": "nearest"})
    section = prompter_section({"model": "m", "topics": "seed", "expand": {"modifiers": 2}}, settings)
    assert section["model"] == "m" and section["candidates"] == 300 and section["expand"] is None
    assert [(topic["name"], topic["text"]) for topic in section["topics"]] == [("cats", "a cat")]
