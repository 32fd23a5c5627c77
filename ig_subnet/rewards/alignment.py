"""Alignment: whether an image shows its own prompt rather than just any.

A beautiful image that has nothing to do with its prompt still scores with experts that look at beauty first. So one
expert that reads prompts is asked what it thinks of the image and decoys: other prompts, which the image was not made
for. Of an image that ignores its prompt, the prompt is one among many.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ig_subnet.rewards.cosine import CosineExpert
from ig_subnet.rewards.errors import ConfigurationError, InputError
from ig_subnet.rewards.mixture import Mixture

SMALLEST_DEVIATION = 1e-6  # of cosines: what rounding makes of decoys that an expert cannot tell apart


class Alignment:
    """The measure of one expert of a mixture, whose score is a cosine of image and prompt.

    Raises `ConfigurationError` for an expert that the mixture does not have, or of another kind.
    """

    def __init__(self, mixture: Mixture, expert: str) -> None:
        chosen = mixture.expert(expert)
        if not isinstance(chosen, CosineExpert):
            raise ConfigurationError(
                f"{expert} does not score by comparing an image with a prompt; name a CLIP-like expert"
            )
        self.expert = chosen

    def measure(self, embeddings: Tensor, prompt: str, decoys: Sequence[str]) -> Tensor:
        """float32 [N]: how far the cosine with the prompt lies above the mean of those with the decoys.

        In standard deviations of the latter, so about 0 for an image that ignores the prompt. `embeddings` [N, D] are
        those of the same expert, as in `RobustScore.embeddings`. Raises `InputError` for fewer than two decoys that
        are not the prompt itself.
        """
        others = [decoy for decoy in dict.fromkeys(decoys) if decoy != prompt]
        if len(others) < 2:
            raise InputError(f"{len(others)} decoys are not enough: give at least two prompts beside the own one")
        texts = self.expert.text.embed([prompt, *others]).cpu()
        own, rest = (embeddings @ texts.T).tensor_split([1], dim=1)
        apart = rest - rest.mean(dim=1, keepdim=True)
        deviation = apart.square().mean(dim=1).sqrt().clamp(min=SMALLEST_DEVIATION)
        return (own[:, 0] - rest.mean(dim=1)) / deviation
