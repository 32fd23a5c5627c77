from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ig_subnet.config.profiles import SHIPPED, ProfileError, load_profile
from ig_subnet.prompts.prompter import PrompterConfig
from ig_subnet.rewards.configuration import RewarderConfig
from ig_subnet.rewards.registry import expert_name


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_profiles_are_whole(name: str) -> None:
    profile = load_profile(name)
    rewarder = RewarderConfig.model_validate(profile["rewarder"])
    assert all(expert_name(expert) == expert for expert in rewarder.experts)
    assert PrompterConfig.model_validate(profile["prompter"]).topics


def test_the_originals_weights() -> None:
    weights = {name: load_profile(name)["rewarder"]["experts"] for name in ("baseline", "mixture")}
    assert {name: expert["weight"] for name, expert in weights["baseline"].items()} == {
        "image_reward": 1.0,
        "clip_aesthetic": 0.01,
    }
    assert {name: expert["weight"] for name, expert in weights["mixture"].items()} == {
        "image_reward": 1.0,
        "clip_aesthetic": 0.0125,
        "pick_score": 0.1,
        "hps_v2": 0.1,
    }


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("rewarder: {experts: {pick_score: {weight: 1}}}\n")
    rewarder = {"experts": {"pick_score": {"weight": 1}}}
    assert load_profile(path) == {"rewarder": rewarder, "prompter": None, "gates": None}
    assert load_profile(str(path)) == load_profile(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "must have the sections"),
        ("- a list", "must have the sections"),
        ("rewards: {}", "must have the sections"),
        ("rewarder: [", "is not valid YAML"),
        ("rewarder: !!python/object/apply:os.getcwd []", "is not valid YAML"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(ProfileError, match=message):
        load_profile(path)


def test_an_unknown_profile_is_named() -> None:
    with pytest.raises(ProfileError, match="no profile 'pockets': use pocket, baseline, mixture"):
        load_profile("pockets")


def test_importing_the_package_and_a_profile_needs_no_torch(project_root: Path) -> None:
    code = (
        "import sys, ig_subnet; from ig_subnet.config.profiles import load_profile; load_profile('pocket'); "
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules; print(ig_subnet.__spec_version__)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=project_root, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "10"), done.stderr
