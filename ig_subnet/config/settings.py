"""Typed settings of the two neurons: what a flag, an environment variable or a YAML file may say, and what it means.

A flag wins over the environment, the environment over the file named by --config, the file over the default. Settings
are frozen once parsed. Anything wrong ends the program with one line that names the culprit, and exit status 2.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ig_subnet.config.groups import (
    Device,
    Dtype,
    Group,
    Hotkey,
    LoggingSettings,
    MinerAxonSettings,
    Offload,
    PlainName,
    Scheduler,
    SubtensorSettings,
    UserPath,
    ValidatorAxonSettings,
    WalletSettings,
)
from ig_subnet.config.sources import EnvironmentSource, FileSource, parse_settings


class NeuronSettings(Group):
    """The neuron."""

    name: PlainName = Field(default="neuron", description="name of the folder that keeps this neuron's state")
    root: UserPath = Field(
        default=Path("~/.bittensor/miners"), description="folder above the state of all neurons", validate_default=True
    )
    device: Device = Field(default="auto", description="auto (CUDA if there is any), cuda, cuda:N or cpu")
    torch_threads: int | None = Field(
        default=None, ge=1, le=1024, description="CPU threads torch may use; unset, as many as torch likes"
    )


class MinerNeuronSettings(NeuronSettings):
    """The neuron."""

    name: PlainName = Field(default="miner", description="name of the folder that keeps this neuron's state")
    resync_seconds: float = Field(
        default=30, ge=0.1, le=3600, description="pause between two readings of the metagraph"
    )


class ValidatorNeuronSettings(NeuronSettings):
    """The neuron."""

    name: PlainName = Field(default="validator", description="name of the folder that keeps this neuron's state")
    timeout: float = Field(default=30, gt=0, le=600, description="seconds a miner has for its complete answer")
    sample_size: int | None = Field(
        default=None, ge=1, le=256, description="miners asked in a round; unset, all that serve"
    )
    prompts_per_round: int = Field(default=1, ge=1, le=64, description="prompts each of them gets in a round")
    images_per_prompt: int = Field(default=2, ge=1, le=16, description="images asked for one prompt")
    image_width: int = Field(
        default=64, ge=16, le=2048, description="width asked for, pixels (the pocket model makes 64 x 64)"
    )
    image_height: int = Field(default=64, ge=16, le=2048, description="height asked for, pixels")
    steps: int | None = Field(default=None, ge=1, le=200, description="hint to the miners: sampling steps that will do")
    round_seconds: float = Field(default=60, ge=0, le=86400, description="pause between two rounds")
    rounds: int = Field(default=0, ge=0, description="end after this many rounds; 0 goes on for ever")
    moving_average_alpha: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="share of a new observation in the moving average; at 0.1 its influence halves in 6.6 later ones",
    )
    absence_hours: float = Field(
        default=24, ge=0, le=8760, description="keep the average of a miner that is not registered any more so long"
    )
    weight_shaping: Literal["power", "softmax"] = Field(
        default="power", description="how weights follow from moving averages: their power, or a softmax of them"
    )
    weight_exponent: float = Field(
        default=3.0,
        gt=0,
        le=100,
        description="power: weights are moving averages to this power; the more, the more the best earn",
    )
    weight_temperature: float = Field(
        default=0.1, ge=0.01, le=10, description="softmax: the less, the more the best earn"
    )
    weight_floor: float = Field(
        default=0.01, ge=0, lt=1, description="a moving average that is not above this earns nothing"
    )
    weight_burn: float = Field(
        default=0.0, ge=0, lt=1, description="share of all weight that goes to the subnet's owner, to be burnt"
    )
    epoch_length: int | None = Field(
        default=None, ge=1, description="blocks between two settings of the weights; unset, once before each epoch"
    )
    disable_set_weights: bool = Field(default=False, description="score, but never set weights")
    allow_private_axons: bool = Field(
        default=False, description="query miners at private and loopback addresses (always on the local network)"
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        le=2**63 - 1,
        description="repeat the choice of topics, prompts and miners; unset, fresh ones",
    )
    publish_commitments: bool = Field(
        default=False,
        description="put the hash of all that was asked, and of what comes next, on the chain once an epoch",
    )
    verify_models: tuple[str, ...] = Field(
        default=(),
        description="hold answers that declare this model (pocket, a hub id, or a directory) against images made "
        "again; may be repeated",
    )
    verify_share: float = Field(
        default=0.25, gt=0, le=1, description="share of these answers that is verified, beside those that are suspected"
    )
    verify_seconds: float = Field(
        default=10, gt=0, le=300, description="seconds of the device that making images again may take in a round"
    )
    decoder_workers: int = Field(default=2, ge=1, le=64, description="processes that decode images")
    save_images: UserPath | None = Field(
        default=None, description="folder to keep every valid image in, as <sha256>.<format>"
    )
    keep_days: float | None = Field(
        default=None,
        gt=0,
        le=36500,
        description="forget images, scores and saved images that are older; unset, only by size",
    )
    keep_megabytes: float | None = Field(
        default=10_000,
        gt=0,
        le=10**9,
        description="forget the oldest of them while the store and the saved images together are larger (MB)",
    )


class BlacklistSettings(Group):
    """Who may query this miner; the rules are asked in this order, and the first that applies decides."""

    hotkeys: tuple[Hotkey, ...] = Field(default=(), description="refuse this hotkey (ss58); may be repeated")
    allow_hotkeys: tuple[Hotkey, ...] = Field(
        default=(), description="answer this hotkey (ss58), registered or not; may be repeated"
    )
    allow_non_registered: bool = Field(
        default=False,
        description="answer callers that are not registered (they have no permit, so allow that as well)",
    )
    force_validator_permit: bool = Field(default=True, description="refuse callers without a validator permit")
    min_stake: float = Field(default=0, ge=0, description="refuse callers with less stake than this (TAO)")


class GeneratorSettings(Group):
    """How images are made."""

    model: str = Field(
        default="pocket", min_length=1, description="pocket, noise, a hub id, or a directory in the diffusers layout"
    )
    steps: int = Field(default=20, ge=1, le=1000, description="sampling steps; a validator's hint does not change them")
    guidance_scale: float | None = Field(
        default=None, ge=0, le=100, description="guidance scale; unset, the model's own"
    )
    scheduler: Scheduler | None = Field(default=None, description="sampler; unset, the model's own")
    dtype: Dtype = Field(
        default="auto", description="number format on the device; auto is float32 on a CPU and float16 on CUDA"
    )
    offload: Offload = Field(
        default="none",
        description="keep parts of a large model in main memory: whole models, or layer by layer (CUDA only)",
    )
    max_side: int = Field(
        default=1024,
        ge=16,
        le=2048,
        description="largest width or height a hub or directory model is asked for, pixels",
    )
    queue_size: int = Field(
        default=8, ge=1, le=1024, description="requests that may wait; beyond that the answer is 'busy'"
    )


class WandbSettings(Group):
    """Weights & Biases; needs `pip install ig_subnet[wandb]`."""

    off: bool = Field(default=True, description="--no-wandb.off switches it on")
    project_name: str | None = Field(
        default=None, min_length=1, description="project; unset, subnet-<netuid>-validator"
    )
    entity: str | None = Field(default=None, min_length=1, description="team or user; unset, the logged-in user")
    offline: bool = Field(default=False, description="write the run to disk only")


class ChainSettings(BaseSettings):
    """What every program has that speaks to a subnet in the name of a wallet."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        cli_implicit_flags=True,
        cli_use_class_docs_for_groups=True,
        cli_exit_on_error=False,
    )

    config: UserPath | None = Field(
        default=None, description="YAML file with any of these settings, nested as the dots are"
    )
    netuid: int = Field(default=1, ge=0, le=65535, description="the subnet")
    subtensor: SubtensorSettings = Field(default_factory=SubtensorSettings)
    wallet: WalletSettings = Field(default_factory=WalletSettings)
    logging: LoggingSettings = Field(default_factory=LoggingSettings)

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource, **named: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # pydantic-settings itself puts the flags before these
        return named["init_settings"], EnvironmentSource(settings_cls), FileSource(settings_cls)


class _Settings(ChainSettings):
    """What both neurons share."""

    neuron: NeuronSettings = Field(default_factory=NeuronSettings)

    @property
    def state_directory(self) -> Path:
        """Where this neuron keeps what must outlive it."""
        neuron, wallet = self.neuron, self.wallet
        return state_directory(neuron.root, wallet.name, wallet.hotkey, self.netuid, neuron.name)


def state_directory(root: Path, coldkey: str, hotkey: str, netuid: int, name: str) -> Path:
    """The folder of a neuron's state: <root>/<coldkey>/<hotkey>/netuid<N>/<name>."""
    return root / coldkey / hotkey / f"netuid{netuid}" / name


class MinerSettings(_Settings):
    """Serve images to the validators of a text-to-image subnet."""

    model_config = SettingsConfigDict(cli_prog_name="miner.py")

    neuron: MinerNeuronSettings = Field(default_factory=MinerNeuronSettings)
    axon: MinerAxonSettings = Field(default_factory=MinerAxonSettings)
    miner: GeneratorSettings = Field(default_factory=GeneratorSettings)
    blacklist: BlacklistSettings = Field(default_factory=BlacklistSettings)

    @property
    def published_ip(self) -> str:
        """The address that goes on the chain."""
        return self.axon.published_ip

    @model_validator(mode="after")
    def _validators_can_reach_it(self) -> Self:
        self.axon.check_address(self.subtensor, "validators")
        return self


class ValidatorSettings(_Settings):
    """Score the miners of a text-to-image subnet and set weights by what they earn."""

    model_config = SettingsConfigDict(cli_prog_name="validator.py")

    neuron: ValidatorNeuronSettings = Field(default_factory=ValidatorNeuronSettings)
    axon: ValidatorAxonSettings = Field(default_factory=ValidatorAxonSettings)
    profile: str = Field(
        default="pocket",
        min_length=1,
        description="pocket, baseline, mixture, or a YAML file with rewarder and prompter sections",
    )
    wandb: WandbSettings = Field(default_factory=WandbSettings)

    @property
    def allow_private_axons(self) -> bool:
        """Whether miners at private and loopback addresses are queried."""
        return self.neuron.allow_private_axons or self.subtensor.is_local

    @property
    def pays_strangers(self) -> bool:
        """Whether weights are set on a network that is not one's own."""
        return not (self.neuron.disable_set_weights or self.subtensor.is_local)

    @model_validator(mode="after")
    def _miners_can_reach_it(self) -> Self:
        if self.axon.port is not None:
            self.axon.check_address(self.subtensor, "miners")
        elif self.axon.external_ip or self.axon.external_port:
            raise ValueError("--axon.port is required with an external address: give the port to listen on")
        return self


def parse_miner_settings(argv: Sequence[str] | None = None) -> MinerSettings:
    """The miner's settings from `argv` (default: the command line), the environment, --config and the defaults.

    Ends the program after --help (status 0) and, with one line on standard error, when anything is wrong (status 2).
    """
    return parse_settings(MinerSettings, sys.argv[1:] if argv is None else argv)


def parse_validator_settings(argv: Sequence[str] | None = None) -> ValidatorSettings:
    """The validator's settings; see `parse_miner_settings`."""
    return parse_settings(ValidatorSettings, sys.argv[1:] if argv is None else argv)
