"""What a mixture says of images."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class RobustScore:
    """Scores of N images that stand up to tampering. Tensors are float32 on the CPU, in the order of the images.

    `score` is of the images as they are. `worst` [N], by expert name, is the expert's lowest score of an image and its
    transformed copies, in the expert's own unit. `trust` [N] in [0, 1] is 1 while the experts lie no further apart than
    about honest images. `incentive` [N] in [0, 1) is the weighted mean of the calibrated worst scores, times trust.
    `embeddings` [N, D], of unit length, are of the images as they are, by the name of each expert that has a vision
    tower.
    """

    score: MixtureScore
    worst: dict[str, Tensor]
    trust: Tensor
    incentive: Tensor
    embeddings: dict[str, Tensor]


@dataclass(frozen=True)
class MixtureScore:
    """Scores of N images. Tensors are on the CPU, [N], in the order of the images; float32 but for `truncated`.

    `total` is the weighted sum, in no particular range; `incentive` lies in (0, 1). `components` holds each expert's
    score in its own unit and `calibrated` the same in (0, 1), by expert name. `disagreement`, in [0, 0.5], is the
    weighted standard deviation of the calibrated scores: 0.5 when experts of equal weight say the opposite.
    `truncated` (bool) says by expert of which images the prompt was too long for it, and was cut.

    How they were made: `weights` of the experts, `dtype` and `resize` they ran with, and by name the `identities` of
    the weights they are.
    """

    total: Tensor
    incentive: Tensor
    disagreement: Tensor
    components: dict[str, Tensor]
    calibrated: dict[str, Tensor]
    truncated: dict[str, Tensor]
    weights: dict[str, float]
    dtype: str
    resize: str
    identities: dict[str, str]

    def to_table(self) -> pa.Table:
        """One row an image: `total`, `incentive`, `disagreement`, and `<expert>`, `<expert>_calibrated`,
        `<expert>_truncated` for each expert. The schema's metadata hold the rest: `dtype` and `resize` as text,
        `weights` and `identities` as JSON. `to_table().to_pandas()` is the data frame.
        """
        import pyarrow as pa

        columns = {"total": self.total, "incentive": self.incentive, "disagreement": self.disagreement}
        for name, scores in self.components.items():
            columns[name] = scores
            columns[f"{name}_calibrated"] = self.calibrated[name]
            columns[f"{name}_truncated"] = self.truncated[name]
        metadata = {
            "dtype": self.dtype,
            "resize": self.resize,
            "weights": json.dumps(self.weights),
            "identities": json.dumps(self.identities),
        }
        return pa.table({name: column.numpy() for name, column in columns.items()}, metadata=metadata)
