"""Alignment: images of the pocket world with their own captions, and with those of others."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ig_subnet.config.profiles import load_profile
from ig_subnet.pocket import parse_caption, pocket_captions, render
from ig_subnet.rewards import ConfigurationError, InputError, Mixture, load_mixture
from ig_subnet.rewards.alignment import Alignment

DECOYS = pocket_captions(64, seed=5)


@pytest.fixture(scope="module")
def mixture() -> Mixture:
    return load_mixture(load_profile("pocket")["rewarder"], "cpu")


@pytest.fixture(scope="module")
def captions() -> list[str]:
    return pocket_captions(24, seed=6)


@pytest.fixture(scope="module")
def embeddings(mixture: Mixture, captions: list[str]) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return mixture.embed([render(parse_caption(caption), rng) for caption in captions], "pick_score")


def test_an_image_is_nearer_to_its_own_prompt_than_to_others(
    mixture: Mixture, captions: list[str], embeddings: torch.Tensor
) -> None:
    alignment = Alignment(mixture, "pick_score")
    measured = torch.stack([alignment.measure(embeddings, caption, DECOYS) for caption in captions])
    own, others = measured.diagonal(), measured[~torch.eye(24, dtype=torch.bool)]
    assert own.shape == (24,) and own.dtype == torch.float32
    assert float(own.min()) > 2 and float(own.mean()) > 4
    assert abs(float(others.mean())) < 0.5 and float((others > 2).float().mean()) < 0.1


def test_only_prompts_beside_the_own_one_are_decoys_and_each_once(mixture: Mixture, embeddings: torch.Tensor) -> None:
    alignment = Alignment(mixture, "pick_score")
    first = alignment.measure(embeddings, "a red circle", DECOYS)
    again = alignment.measure(embeddings, "a red circle", [*DECOYS, "a red circle", *DECOYS[:30]])
    torch.testing.assert_close(first, again)
    assert alignment.measure(embeddings[:0], "a red circle", DECOYS).shape == (0,)


@pytest.mark.parametrize("decoys", [[], ["a red circle"], ["a blue square", "a red circle", "a blue square"]])
def test_a_single_decoy_is_too_few(mixture: Mixture, embeddings: torch.Tensor, decoys: list[str]) -> None:
    with pytest.raises(InputError, match="decoys are not enough"):
        Alignment(mixture, "pick_score").measure(embeddings, "a red circle", decoys)


@pytest.mark.parametrize(
    ("expert", "message"),
    [
        ("clip_aesthetic", "does not score by comparing an image with a prompt"),
        ("image_reward", "does not score by comparing an image with a prompt"),
        ("clip_score", "no expert clip_score in the mixture"),
        ("beauty", "unknown expert 'beauty'"),
    ],
)
def test_an_expert_that_reads_no_prompts_is_refused(mixture: Mixture, expert: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Alignment(mixture, expert)


@pytest.mark.parametrize("expert", ["image_reward", "clip_score"])
def test_only_an_expert_with_a_vision_tower_embeds(mixture: Mixture, expert: str) -> None:
    with pytest.raises(ConfigurationError, match=r"name a CLIP-like expert|no expert clip_score"):
        mixture.embed([], expert)
