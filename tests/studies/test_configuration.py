"""What a study of models may be made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ig_subnet.studies.configuration import PLAIN_NAME, SHIPPED, ModelSettings, parse_study, read_study
from ig_subnet.studies.errors import SettingsError


def model(written: Any) -> ModelSettings:
    return ModelSettings.model_validate(written)


def test_a_line_says_what_a_mapping_says() -> None:
    line = model("stabilityai/sdxl-turbo:steps=1,guidance=0,scheduler=dpm++,size=768x512,compile=true,revision=0123")
    assert line == model(
        {
            "source": "stabilityai/sdxl-turbo",
            "name": line.name,
            "steps": 1,
            "guidance": 0.0,
            "scheduler": "dpm++",
            "size": [768, 512],
            "compile": True,
            "revision": "0123",
        }
    )
    assert (model("pocket:size=64").size, model("pocket").size) == ((64, 64), None)
    assert model("C:/models/mine:steps=4").source == "C:/models/mine", "a colon may belong to the source"


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("pocket", "pocket"),
        ("pocket:steps=4,guidance=3", "pocket-steps-4-guidance-3"),
        ("CompVis/stable-diffusion-v1-4", "stable-diffusion-v1-4"),
        ("./my model/:batch=2,offload=model", "my-model"),
        ("a/b:scheduler=dpm++", "b-scheduler-dpm++"),
        ("a/b:name=mine,steps=3", "mine"),
    ],
)
def test_a_model_is_called_by_what_makes_its_images_its_own(written: str, name: str) -> None:
    assert model(written).name == name


@given(st.text(min_size=1, max_size=100))
def test_any_source_has_a_name_that_can_be_a_folder_or_one_clear_error(source: str) -> None:
    try:
        assert PLAIN_NAME.fullmatch(model({"source": source}).name)
    except ValueError as error:
        assert "becomes a folder" in str(error)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"models": []}, "models: "),
        ({"models": ["pocket", "pocket"]}, "two models are called 'pocket'"),
        ({"models": ["pocket:steps=2,guidance"]}, "'guidance' is no key=value"),
        ({"models": ["pocket:steps=0"]}, "models.0.steps: "),
        ({"models": ["pocket:steps=1,steps=2"]}, "stands there twice"),
        ({"models": ["pocket:speed=3"]}, "models.0.speed: "),
        ({"models": ["pocket:scheduler=magic"]}, "models.0.scheduler: "),
        ({"models": ["pocket:size=65"]}, "models.0.size"),
        ({"models": ["a/b:safetensors=false"]}, "needs a revision that is a full commit"),
        ({"models": [{"source": "pocket", "name": "../up"}]}, "'../up' becomes a folder"),
        ({"topics": [{"name": "a/b", "text": "c"}]}, "'a/b' becomes a folder"),
        ({"topics": "nonsense"}, "no set of topics 'nonsense'"),
        ({"profile": "nonsense"}, "no profile 'nonsense'"),
        ({"prompts_per_topic": 0}, "prompts_per_topic: "),
        ({"colour": "red"}, "colour: "),
    ],
)
def test_what_cannot_be_is_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as told:
        parse_study({"models": ["pocket"], **changed})
    assert "\n" not in str(told.value)


def test_each_model_has_what_it_does_not_say_itself() -> None:
    study = parse_study({"models": ["pocket", "pocket:steps=2"], "each_model": {"steps": 6, "guidance": 1}})
    assert [(each.name, each.steps, each.guidance) for each in study.models] == [
        ("pocket", 6, 1.0),
        ("pocket-steps-2", 2, 1.0),
    ]


def test_the_profiles_topics_are_asked_where_a_study_names_none() -> None:
    assert [topic.name for topic in parse_study({"models": ["pocket"]}).topics or ()][:2] == ["cartoon", "paper_cutout"]
    assert len(parse_study({"models": ["pocket"], "topics": "study"}).topics or ()) == 5


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_studies_are_whole(name: str) -> None:
    study = parse_study(read_study(name))
    assert study.quick().prompts_per_topic == 4 < study.prompts_per_topic


def test_the_authors_study_is_his() -> None:
    study = parse_study(read_study("author"))
    assert (study.prompts_per_topic, study.images_per_prompt) == (100, 4)
    assert (study.negative_prompt, study.prompts) == ("ugly, blurry, poor quality", "nearest")
    assert [topic.text for topic in study.topics or ()][1] == "a artistic, artstation image of"
    assert len(study.models) == 9 and study.models[1].source == "segmind/SSD-1B"


def test_a_study_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no study 'mine': use pocket, author, or a YAML file"):
        read_study("mine")
    (tmp_path / "list.yaml").write_text("- pocket\n")
    with pytest.raises(SettingsError, match="is no mapping"):
        read_study(tmp_path / "list.yaml")
    (tmp_path / "bad.yaml").write_text("models: [\n")
    with pytest.raises(SettingsError, match=r"bad\.yaml cannot be read"):
        read_study(tmp_path / "bad.yaml")
