"""Where prompts come from: published collections at a pinned commit, local files, and the pocket world's captions.

A source is chosen by the `source` field of its configuration. Each has a `name` that says which version of what it is,
and the `licence` that its publisher states.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

BATCH_ROWS = 8192  # that are read, filtered and tokenized at once

Revision = Annotated[str, Field(pattern="^[0-9a-f]{40}$")]  # a commit: branches and tags can move
Split = Literal["train", "validation", "test"]


class _Source(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    def settings(self) -> dict[str, JsonValue]:
        """What decides which rows are read: all but where they lie and what they are called."""
        return self.model_dump(mode="json", exclude={"path", "name", "licence"})


class PocketCaptions(_Source):
    """Captions of the pocket world: always the same ones for a seed; a longer list begins with the shorter one."""

    licence: ClassVar[str] = "MIT"

    source: Literal["pocket_captions"] = "pocket_captions"
    count: int = Field(default=2000, ge=1, le=10_000)
    seed: int = Field(default=0, ge=0)

    @property
    def name(self) -> str:
        return f"pocket_captions(seed={self.seed})"


class _HubSource(_Source):
    """Parquet files of a Hugging Face data set at a commit, or a local copy of them.

    `path` is a folder that is laid out as the repository is, or the file itself where there is only one. Then the hub
    is not asked, and the name claims no revision.
    """

    repository: ClassVar[str]
    licence: ClassVar[str]
    column: ClassVar[str] = "prompt"
    nsfw_column: ClassVar[str | None] = None

    revision: Revision
    path: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """Paths in the repository, in the order in which they are read."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        version = self.repository if self.path else f"{self.repository}@{self.revision[:12]}"
        return f"{version}/{'+'.join(Path(file).stem for file in self.files)}"


class ImageRewardDB(_HubSource):
    """Prompts of ImageRewardDB (Xu et al., https://arxiv.org/abs/2304.05977); a row is an image, so they repeat."""

    repository: ClassVar[str] = "zai-org/ImageRewardDB"
    licence: ClassVar[str] = "Apache-2.0"

    source: Literal["image_reward_db"] = "image_reward_db"
    splits: tuple[Literal["train", "validation", "test"], ...] = Field(
        default=("train", "validation", "test"), min_length=1
    )
    revision: Revision = "ce70065c88f101956e294bb65f78879ef89d68f9"

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(f"metadata-{split}.parquet" for split in self.splits)


class DiffusionDB(_HubSource):
    """Prompts of DiffusionDB (Wang et al., https://arxiv.org/abs/2210.14896); a row is an image, so they repeat.

    `metadata.parquet` has 2 million rows (1.5 million prompts, 195 MB), `metadata-large.parquet` 14 million (1.8
    million prompts, 825 MB). `prompt_nsfw` is a text classifier's estimate in [0, 1] that a prompt is toxic or sexual.
    `image_nsfw` is not used: it judges one image of a prompt, and 2.0 in it marks one that had been blurred.
    """

    repository: ClassVar[str] = "poloclub/diffusiondb"
    licence: ClassVar[str] = "CC0-1.0"
    nsfw_column: ClassVar[str | None] = "prompt_nsfw"

    source: Literal["diffusion_db"] = "diffusion_db"
    file: Literal["metadata.parquet", "metadata-large.parquet"] = "metadata.parquet"
    revision: Revision = "100e6df7a779ef015ff6f2c4c93284466afb06cc"

    @property
    def files(self) -> tuple[str, ...]:
        return (self.file,)


class StableDiffusionPrompts(_HubSource):
    """The 73,718 training rows of Gustavosta/Stable-Diffusion-Prompts, collected from lexica.art."""

    repository: ClassVar[str] = "Gustavosta/Stable-Diffusion-Prompts"
    licence: ClassVar[str] = "unknown"  # as its card says
    column: ClassVar[str] = "Prompt"

    source: Literal["stable_diffusion_prompts"] = "stable_diffusion_prompts"
    revision: Revision = "f40484704ca5bdeb389483123ba017897f1bfcdc"

    @property
    def files(self) -> tuple[str, ...]:
        return ("data/train.parquet",)


class PromptFile(_Source):
    """A local .txt (one prompt a line), .csv, .jsonl or .parquet file; tables have their prompts in `column`.

    `nsfw_column` may hold a score in [0, 1] that a prompt is not safe for work.
    """

    source: Literal["file"] = "file"
    path: str
    column: str = "prompt"
    nsfw_column: str | None = None
    name: str = Field(default_factory=lambda fields: Path(fields.get("path", "")).name, min_length=1)
    licence: str = "unknown"


HubSource = ImageRewardDB | DiffusionDB | StableDiffusionPrompts
SourceConfig = Annotated[PocketCaptions | HubSource | PromptFile, Field(discriminator="source")]
