"""Settings of a miner, and a model for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_pipelines import tiny_stable_diffusion

from ig_subnet.config.settings import MinerSettings


@pytest.fixture
def miner_settings() -> Callable[..., MinerSettings]:
    """Settings of a local miner on the CPU, with these of its --miner group."""

    def make(**miner: object) -> MinerSettings:
        return MinerSettings.model_validate(
            {"subtensor": {"network": "local"}, "neuron": {"device": "cpu", "torch_threads": 1}, "miner": miner}
        )

    return make


@pytest.fixture(scope="session")
def tiny_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a StableDiffusionPipeline that makes 32 x 32 pixels, stored in half precision."""
    return tiny_stable_diffusion(tmp_path_factory.mktemp("models") / "tiny model")
