"""The published weights of every expert, as data: where they are, under which terms, and what their scores look like.

Adding an expert is a row here and a small file of its own. Revisions are commits of the Hugging Face hub; loading by
the default id always means exactly these files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ig_subnet.rewards.calibration import Calibration
from ig_subnet.rewards.errors import ConfigurationError


@dataclass(frozen=True)
class Source:
    """Files of one hub repository at one commit, each with its SHA-256, which is checked, or None where unknown."""

    repository: str
    revision: str
    files: Mapping[str, str | None]


@dataclass(frozen=True)
class PublishedFiles:
    """The files of a published model. `default` is the hub id that stands for all `sources` together.

    `optional` are files that a directory may add (a tokenizer, image statistics) and that have a packaged or published
    default.
    """

    default: str
    sources: tuple[Source, ...]
    optional: tuple[str, ...]
    licence: str
    megabytes: int

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all files of the published layout."""
        return tuple(name for source in self.sources for name in source.files)


@dataclass(frozen=True)
class PublishedWeights(PublishedFiles):
    """One row: an expert's published files and the figures a reader needs to choose it.

    `pixels` tells how an image becomes the `image_size` that the model sees; prompts are cut after `token_limit` tokens
    (None: not read). `cosine` tells whether the score is a cosine, which can be multiplied by the model's logit scale.
    `calibration` is used where the configuration brings none; it is in the unit of the score without logit scale.
    """

    seed_name: str
    image_size: int
    pixels: str
    token_limit: int | None
    score_range: str
    cosine: bool
    calibration: Calibration
    paper: str


AESTHETIC_HEAD = "sac+logos+ava1-l14-linearMSE.pth"
CLIP_OPTIONAL = ("preprocessor_config.json", "vocab.json", "merges.txt", "tokenizer_config.json")
CLIP_VIT_L_14 = Source(
    "openai/clip-vit-large-patch14",
    "32bd64288804d66eefd0ccbe215aa642df71cc41",
    {
        "config.json": "8a09b467700c58138c29d53c605b34ebc69beaadd13274a8a2af8ad2c2f4032a",
        "model.safetensors": "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
    },
)

PUBLISHED: dict[str, PublishedWeights] = {
    "image_reward": PublishedWeights(
        default="zai-org/ImageReward",
        seed_name="image_rewarder",
        sources=(
            Source(
                "zai-org/ImageReward",
                "5736be03b2652728fb87788c9797b0570450ab72",
                {"ImageReward.pt": None, "med_config.json": None},
            ),
        ),
        optional=("vit_config.json", "vocab.txt", "bert-base-uncased/vocab.txt"),
        licence="Apache-2.0",
        megabytes=1790,
        image_size=224,
        pixels="shortest side resized, centre crop with the offset rounded",
        token_limit=35,
        score_range="standardised, about -2 to 2",
        cosine=False,
        calibration=Calibration(0.0, 1.0, "standardised by its authors' published mean and deviation"),
        paper="https://arxiv.org/abs/2304.05977",
    ),
    "clip_aesthetic": PublishedWeights(
        default="openai/clip-vit-large-patch14",
        seed_name="clip_aesthetic_rewarder",
        sources=(
            CLIP_VIT_L_14,
            Source(
                "camenduru/improved-aesthetic-predictor",
                "7b2449be1264fcd9a1cf92e3d30dd29af989c836",
                {AESTHETIC_HEAD: "21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0"},
            ),
        ),
        optional=CLIP_OPTIONAL,
        licence="head Apache-2.0, CLIP MIT",
        megabytes=1714,
        image_size=224,
        pixels="shortest side resized, centre crop with the offset rounded",
        token_limit=None,
        score_range="about 1 to 10",
        cosine=False,
        calibration=Calibration(5.5, 1.0, "nominal, from the range of the marks it was trained on", measured=False),
        paper="https://github.com/christophschuhmann/improved-aesthetic-predictor",
    ),
    "pick_score": PublishedWeights(
        default="yuvalkirstain/PickScore_v1",
        seed_name="pick_rewarder",
        sources=(
            Source(
                "yuvalkirstain/PickScore_v1",
                "a4e4367c6dfa7288a00c550414478f865b875800",
                {"config.json": None, "model.safetensors": None},
            ),
        ),
        optional=CLIP_OPTIONAL,
        licence="code MIT, the model card states none",
        megabytes=3945,
        image_size=224,
        pixels="shortest side resized, centre crop with the offset rounded down",
        token_limit=77,
        score_range="cosine, about 0.15 to 0.25",
        cosine=True,
        calibration=Calibration(0.205, 0.015, "nominal, around one published run of the mixture", measured=False),
        paper="https://arxiv.org/abs/2305.01569",
    ),
    "hps_v2": PublishedWeights(
        default="xswu/HPSv2",
        seed_name="hps_v2_rewarder",
        sources=(
            Source(
                "xswu/HPSv2",
                "697403c78157020a1ae59d23f111aa58ced35b0a",
                {"HPS_v2.1_compressed.pt": "c57a38fb4a2f7e7c15bf00da2ea377cdf165448b4dd1052a484c215a998c9837"},
            ),
        ),
        optional=("open_clip_config.json", "vocab.json", "merges.txt", "tokenizer_config.json"),
        licence="Apache-2.0",
        megabytes=1973,
        image_size=224,
        pixels="longest side resized on floats, padded with black to a square",
        token_limit=77,
        score_range="cosine, about 0.2 to 0.35",
        cosine=True,
        calibration=Calibration(0.27, 0.03, "nominal, around one published run of the mixture", measured=False),
        paper="https://arxiv.org/abs/2306.09341",
    ),
    "clip_score": PublishedWeights(
        default="openai/clip-vit-large-patch14",
        seed_name="clip_score",
        sources=(CLIP_VIT_L_14,),
        optional=CLIP_OPTIONAL,
        licence="MIT",
        megabytes=1711,
        image_size=224,
        pixels="shortest side resized, centre crop with the offset rounded",
        token_limit=77,
        score_range="cosine, about 0.1 to 0.35",
        cosine=True,
        calibration=Calibration(0.25, 0.04, "nominal, from the usual range of its cosines", measured=False),
        paper="https://arxiv.org/abs/2104.08718",
    ),
}

VERSIONS: dict[str, dict[str, PublishedWeights]] = {
    "hps_v2": {
        "2.1": PUBLISHED["hps_v2"],
        "2.0": replace(
            PUBLISHED["hps_v2"],
            sources=(replace(PUBLISHED["hps_v2"].sources[0], files={"HPS_v2_compressed.pt": None}),),
        ),
    }
}
"""Rows of the experts that were published more than once; the first is the one of `PUBLISHED`."""


SAFETY_CHECKER = PublishedFiles(
    default="CompVis/stable-diffusion-safety-checker",
    sources=(
        Source(
            "CompVis/stable-diffusion-safety-checker",
            "cb41f3a270d63d454d385fc2e4f571c487c253c5",
            {"config.json": None, "pytorch_model.bin": None},
        ),
    ),
    optional=(),
    licence="the model card states none",
    megabytes=1216,
)
"""The safety checker of Stable Diffusion: no expert, so it has no row among them."""


def published(name: str, version: str | None = None) -> PublishedWeights:
    """The row of an expert; of its newest version unless another is named. Raises `ConfigurationError`."""
    if version is None:
        return PUBLISHED[name]
    versions = VERSIONS.get(name, {})
    if version not in versions:
        known = f"use {' or '.join(versions)}" if versions else "it has one version only; leave `version` out"
        raise ConfigurationError(f"{name} has no version {version!r}: {known}")
    return versions[version]
