"""A subnet that costs nothing: chain, prompts and scores made up, so that rounds of the real validator can be many.

Bright images are good ones, and no two prompts are alike. Nothing here imports torch or opens a connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ig_subnet.chain import AxonEndpoint, ChainUnavailable, Commitment, EpochTiming, MetagraphSnapshot, NeuronSnapshot
from ig_subnet.chain.outcomes import (
    CommitmentOutcome,
    CommitmentPublished,
    ServeOutcome,
    ServeUnreachable,
    WeightsOutcome,
    WeightsSet,
    WeightsTooEarly,
    WeightsUnreachable,
)
from ig_subnet.prompts import Candidates, DrawnPrompt, RetrievedPrompt, Topic, Uses
from ig_subnet.prompts.choosing import choose
from ig_subnet.prompts.database import prompt_id
from ig_subnet.validating.device import Device, ExpertScore, Findings, Mixture, Models
from ig_subnet.validating.gate_settings import GateSettings

EXPERT = "brightness"
CANDIDATES = 32
EMBEDDED_SIDE = 8  # pixels: an embedding is the image at this size
AWAY = "made up to be away"


def neuron(uid: int, hotkey: str, registered_at: int = 1, *, axon: bool = True) -> NeuronSnapshot:
    """A miner, or with no `axon` somebody who is only registered."""
    endpoint = AxonEndpoint("192.0.2.1", 1 + uid) if axon else None
    return NeuronSnapshot(
        uid,
        hotkey,
        coldkey="made up",
        stake=0.0,
        validator_permit=False,
        active=True,
        last_update=registered_at,
        registered_at=registered_at,
        axon=endpoint,
        incentive=0.0,
        dividends=0.0,
        emission=0.0,
        consensus=0.0,
        trust=0.0,
        validator_trust=0.0,
    )


@dataclass
class MadeUpChain:
    """As `ig_subnet.chain.interface.Chain`, of one validator: it shows `snapshot` at `block`, both set from outside.

    While it is `away` nothing can be read or written. `settings` are the weights that it took, with their block.
    """

    snapshot: MetagraphSnapshot
    hotkey: str
    block: int = 1000
    tempo: int = 360
    weights_rate_limit: int = 100
    away: bool = False
    settings: list[tuple[int, dict[int, float]]] = field(default_factory=list)
    commitment: Commitment | None = None

    @property
    def netuid(self) -> int:
        return self.snapshot.netuid

    async def block_number(self) -> int:
        return self._seen()

    async def metagraph(self) -> MetagraphSnapshot:
        return MetagraphSnapshot(self.netuid, self._seen(), self.snapshot.neurons, self.snapshot.owner_hotkey)

    async def registered_uid(self, hotkey: str) -> int | None:
        self._seen()
        found = self.snapshot.by_hotkey(hotkey)
        return None if found is None else found.uid

    async def serve_axon(self, ip: str, port: int) -> ServeOutcome:
        return ServeUnreachable("a made-up chain publishes no axon")

    async def set_weights(self, weights: Mapping[int, float], version_key: int) -> WeightsOutcome:
        if self.away:
            return WeightsUnreachable(AWAY)
        if (waited := self._since_weights()) < self.weights_rate_limit:
            return WeightsTooEarly(self.weights_rate_limit - waited)
        self.settings.append((self.block, dict(weights)))
        return WeightsSet(self.block, f"{self.block}-1")

    async def sealed_weights(self, hotkey: str) -> int | None:
        self._seen()
        return None

    async def epoch_timing(self, uid: int | None) -> EpochTiming:
        block = self._seen()
        return EpochTiming(
            block,
            self.tempo,
            blocks_until_next_epoch=self.tempo - block % self.tempo,
            last_epoch_block=block - block % self.tempo,
            blocks_since_last_update=None if uid is None else self._since_weights(),
            weights_rate_limit=self.weights_rate_limit,
        )

    async def weights_on_chain(self) -> dict[int, dict[int, float]]:
        uid = await self.registered_uid(self.hotkey)
        return {} if uid is None or not self.settings else {uid: self.settings[-1][1]}

    async def publish_commitment(self, data: bytes) -> CommitmentOutcome:
        self.commitment = Commitment(data, self._seen())
        return CommitmentPublished(self.block, f"{self.block}-2")

    async def commitment_of(self, hotkey: str) -> Commitment | None:
        self._seen()
        return self.commitment if hotkey == self.hotkey else None

    def _seen(self) -> int:
        if self.away:
            raise ChainUnavailable("made up", AWAY)
        return self.block

    def _since_weights(self) -> int:
        return self.block - (self.settings[-1][0] if self.settings else 0)


class MadeUpDatabase:
    """Prompts that can be told apart by their number only."""

    def __init__(self, prompts: int) -> None:
        self._texts = [f"prompt number {number}" for number in range(prompts)]

    def __len__(self) -> int:
        return len(self._texts)

    def texts(self, positions: Iterable[int]) -> list[str]:
        return [self._texts[position] for position in positions]


@dataclass
class MadeUpPrompter:
    """As `ig_subnet.prompts.Prompter`: to the second topic the prompts are as near as to the first, in reverse."""

    database: MadeUpDatabase
    topics: Sequence[Topic] = (Topic(name="bright", text="something bright"), Topic(name="dark", text="a dark thing"))
    digest: str = "ab" * 32
    fingerprint: str = "cd" * 32

    def candidates(self, topic: Topic) -> Candidates:
        return self._nearest(topic, CANDIDATES)

    def wider(self, candidates: Candidates, uses: Mapping[str, Uses]) -> Candidates | None:
        fresh = sum(uses.get(found, Uses()).fresh for found in candidates.ids)
        if fresh >= CANDIDATES or candidates.searched >= len(self.database):
            return None
        return self._nearest(candidates.topic, 2 * candidates.searched)

    def draw(self, candidates: Candidates, n: int, uses: Mapping[str, Uses], seed: bytes) -> list[DrawnPrompt]:
        chosen = choose(candidates, n, uses=uses, seed=seed, among=CANDIDATES)
        return [DrawnPrompt.of(prompt, candidates.topic.name) for prompt in chosen]

    def _nearest(self, topic: Topic, k: int) -> Candidates:
        rows = list(range(len(self.database)))[:: 1 if topic == self.topics[0] else -1][:k]
        nearest = [
            RetrievedPrompt(prompt_id(text), text, 1 - place / len(self.database), row, "made up", "MIT")
            for place, (row, text) in enumerate(zip(rows, self.database.texts(rows), strict=True))
        ]
        vectors = np.random.default_rng(0).standard_normal((len(nearest), 16), dtype=np.float32)
        return Candidates(topic, k, tuple(nearest), vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


@dataclass(frozen=True)
class MadeUpMixture:
    """What the device says that it scores with; `MadeUpDevice` scores by itself."""

    dtype: str = "float32"
    resize: str = "pil"
    identities: Mapping[str, str] = field(default_factory=lambda: {EXPERT: "no weights"})


class MadeUpDevice(Device):
    """The real device's thread, on which an image's incentive is its mean brightness; an all-black one has no score.

    An embedding is the image at 8 x 8 pixels less its mean, as a unit vector. With `gates` the findings are what they
    ask for; every image is safe for work and shows its prompt.
    """

    def __init__(self, gates: GateSettings | None = None, prompts: int = 2000) -> None:
        mixture = cast(Mixture, MadeUpMixture())
        models = Models(MadeUpPrompter(MadeUpDatabase(prompts)), mixture, gates or GateSettings())
        super().__init__(lambda: models)

    async def embed(self, images: Sequence[NDArray[np.uint8]], expert: str) -> NDArray[np.float32]:
        return await self.run(lambda: np.stack([embedding(image) for image in images]))

    async def examine(
        self, images: Sequence[NDArray[np.uint8]], prompt: str, topic: str, seed: bytes
    ) -> list[Findings | None]:
        return await self.run(lambda: [self._find(image) for image in images])

    def _find(self, image: NDArray[np.uint8]) -> Findings | None:
        bright = float(image.mean()) / 255
        if not bright:
            return None
        return Findings(
            total=2 * bright - 1,
            incentive=bright,
            disagreement=0.0,
            trust=1.0,
            experts={EXPERT: ExpertScore(bright, bright, truncated=False)},
            embedding=embedding(image) if self.gates.duplicates else None,
            alignment=1.0 if self.gates.alignment else None,
            unsafe=0.0 if self.gates.nsfw else None,
        )


def embedding(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32 [192], of unit length."""
    small = np.asarray(Image.fromarray(image).resize((EMBEDDED_SIDE, EMBEDDED_SIDE)), dtype=np.float32).ravel()
    vector = small - small.mean()
    return vector / max(float(np.linalg.norm(vector)), 1e-6)
