"""What a running validator remembers: the moving averages in memory, everything else in the store, both in step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ig_subnet.chain.interface import MetagraphSnapshot
from ig_subnet.prompts import Uses
from ig_subnet.validating.commitments import Plan, digest_of, next_head, opened
from ig_subnet.validating.errors import StoreDamaged, StoreForeign
from ig_subnet.validating.moving_average import average_of, registrations_of, update
from ig_subnet.validating.records import AverageRow, CommitmentRow, MinerRow, RoundRecord
from ig_subnet.validating.round import RoundResult
from ig_subnet.validating.store import ScoreStore
from ig_subnet.validating.thread import OneThread

Result = TypeVar("Result")


@dataclass(frozen=True)
class CommittedPlan:
    """The plan of the next round, written down as commitment `number` and not revealed yet; `secret` is 32 bytes."""

    number: int
    secret: bytes
    plan: Plan


class Memory:
    """The store at `path` on its one writing thread; used with `async with`. Every method may raise a StoreError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = OneThread("store")
        self.miners: Mapping[str, MinerRow] = {}
        """The moving averages after the last recorded round, keyed by hotkey."""

    async def __aenter__(self) -> Memory:
        try:
            self._store = await self._thread.run(ScoreStore.open, self._path)
            self.miners = await self._thread.run(lambda: {miner.hotkey: miner for miner in self._store.miners()})
        except BaseException:
            await self._thread.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._thread.run(self._store.close)
        await self._thread.close()

    async def next_round_id(self) -> int:
        return await self._thread.run(self._store.next_round_id)

    async def committed_plan(self, hotkey: str, netuid: int) -> CommittedPlan | None:
        """The plan that this validator is bound to; None where it has to make one.

        Raises StoreDamaged for one that does not fit its digest, StoreForeign for one of another validator.
        """
        row = await self._thread.run(self._store.unrevealed_commitment)
        if row is None:
            return None
        assert row.secret is not None and row.content is not None  # no column of a plan that is not revealed is empty
        try:
            plan = opened(row.digest, row.secret, row.content)
        except ValueError as error:
            raise StoreDamaged(
                f"{self._path}: commitment {row.id}, to round {row.round_id}, is damaged: {error}; restore the "
                "file, or move it away"
            ) from error
        if (plan.hotkey, plan.netuid) != (hotkey, netuid):
            raise StoreForeign(
                f"{self._path} is another validator's: {plan.hotkey} on subnet {plan.netuid} has committed to its "
                f"round {plan.round}, and this is {hotkey} on subnet {netuid}; use another --neuron.name"
            )
        return CommittedPlan(row.id, bytes.fromhex(row.secret), plan)

    async def next_commitment(self) -> int:
        """The number of the commitment to be made now."""
        return (await self.newest_head())[0] + 1

    async def newest_head(self) -> tuple[int, str]:
        """As `ScoreStore.newest_head`."""
        return await self._thread.run(self._store.newest_head)

    async def commit(self, secret: bytes, plan: Plan, block: int) -> CommittedPlan:
        """Writes down what the next round asks; from now on it is asked, whatever happens in between."""
        (newest, head), content = await self.newest_head(), plan.canonical()
        digest = digest_of(secret, content)
        row = CommitmentRow(
            newest + 1, plan.round, time.time(), block, digest, next_head(head, digest), secret.hex(), content
        )
        await self._thread.run(self._store.commit, row)
        return CommittedPlan(row.id, secret, plan)

    async def give_up(self, committed: CommittedPlan) -> None:
        """Reveals a plan of which nothing came but a fault of the validator's own."""
        await self._thread.run(self._store.void_commitment, committed.number, time.time())

    async def uses(self, prompt_ids: Sequence[str], hotkeys: Iterable[str]) -> dict[str, Uses]:
        """As `ScoreStore.uses`."""
        return await self._thread.run(self._store.uses, prompt_ids, hotkeys)

    async def with_store(self, function: Callable[[ScoreStore], Result]) -> Result:
        """What `function` returns or raises, given the store on its thread; nothing is written meanwhile."""
        return await self._thread.run(function, self._store)

    async def remember(
        self,
        result: RoundResult,
        metagraph: MetagraphSnapshot,
        *,
        alpha: float,
        absence_seconds: float = 0.0,
        commitment: int | None = None,
    ) -> RoundRecord:
        """Moves the averages by the round's observations and writes all of it; the averages count once it is written.

        `metagraph` is the one the miners were drawn from, `commitment` the number of the plan that is revealed with it;
        `alpha` and `absence_seconds` as `moving_average.update` has them.
        """
        round_id = result.round.round_id
        miners = update(
            self.miners,
            registrations_of(metagraph),
            result.observations,
            alpha=alpha,
            round_id=round_id,
            now=result.round.finished_at,
            absence_seconds=absence_seconds,
        )
        record = RoundRecord(
            result.round,
            result.prompts,
            result.answers,
            result.images,
            result.expert_scores,
            averages=tuple(
                AverageRow(round_id, hotkey, miners[hotkey].uid, observation, average_of(miners[hotkey]))
                for hotkey, observation in result.observations.items()
            ),
            miners=tuple(miners.values()),
            rewarder=result.rewarder,
            commitment=commitment,
        )
        await self._thread.run(self._store.record_round, record)
        self.miners = miners
        return record

    async def record_weight_setting(
        self,
        *,
        at: float,
        block: int,
        outcome: str,
        detail: str,
        weights: Mapping[int, float],
        basis: str | None = None,
    ) -> None:
        """As `ScoreStore.record_weight_setting`."""
        await self._thread.run(
            self._store.record_weight_setting,
            at=at,
            block=block,
            outcome=outcome,
            detail=detail,
            weights=weights,
            basis=basis,
        )
