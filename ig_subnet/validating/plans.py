"""What the next round asks: drawn from what its miners have not had, and committed to before they are asked."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable

from loguru import logger

from ig_subnet.prompts import Candidates, Topic, Uses
from ig_subnet.validating.commitments import Plan, PlannedPrompt
from ig_subnet.validating.device import Device
from ig_subnet.validating.errors import RoundError, ValidatingError
from ig_subnet.validating.memory import CommittedPlan, Memory
from ig_subnet.validating.sampling import choose_miners, derived_seed, round_secret


class Planner:
    """Plans the rounds of one validator.

    `prompts` is how many a round asks, `sample_size` of how many miners (None is all). `askable` says of a text whether
    it can be asked at all. With a `seed` the plans repeat: see `sampling`.
    """

    def __init__(
        self,
        device: Device,
        memory: Memory,
        *,
        hotkey: str,
        netuid: int,
        prompts: int,
        sample_size: int | None,
        askable: Callable[[str], bool],
        seed: int | None,
    ) -> None:
        self._device = device
        self._memory = memory
        self._hotkey = hotkey
        self._netuid = netuid
        self._prompts = prompts
        self._sample_size = sample_size
        self._askable = askable
        self._seed = seed

    async def next_plan(self, miners: Collection[str], block: int) -> CommittedPlan:
        """What the next round asks: the plan that is committed to, or else a new one for these miners, by hotkey.

        Raises RoundError where none can be made, or a StoreError.
        """
        committed = await self._memory.committed_plan(self._hotkey, self._netuid)
        if committed is not None and not all(self._askable(prompt.text) for prompt in committed.plan.prompts):
            logger.warning("the plan of round {} is given up: a prompt of it cannot be asked", committed.plan.round)
            await self._memory.give_up(committed)
            committed = None
        return committed or await self._commit(miners, block)

    def sample(self, miners: Collection[str], round_id: int, secret: bytes) -> list[str]:
        """Who of the miners, by hotkey, is asked in the round with this secret."""
        last_asked = {hotkey: miner.last_round for hotkey, miner in self._memory.miners.items()}
        return choose_miners(miners, self._sample_size, secret, round_id=round_id, last_asked=last_asked)

    async def _commit(self, miners: Collection[str], block: int) -> CommittedPlan:
        round_id = await self._memory.next_round_id()
        secret = round_secret(self._seed, round_id, await self._memory.next_commitment())
        try:
            plan = await self._draw(round_id, secret, self.sample(miners, round_id, secret))
        except ValidatingError:
            raise
        except Exception as error:
            raise RoundError(f"round {round_id} cannot be planned: {type(error).__name__}: {error}") from error
        return await self._memory.commit(secret, plan, block)

    async def _draw(self, round_id: int, secret: bytes, hotkeys: Collection[str]) -> Plan:
        """One topic by its weight, and prompts for it; LookupError where there is nothing to ask."""
        topics = await self._device.topics()
        chance = random.Random(derived_seed(secret, "topic"))
        topic = chance.choices(topics, weights=[topic.weight for topic in topics])[0]
        candidates, uses = await self._candidates(topic, hotkeys)
        drawn = await self._device.draw(candidates, self._prompts, uses, derived_seed(secret, "prompts"))
        prompts = tuple(
            PlannedPrompt(
                text=prompt.text,
                id=prompt.id,
                parents=prompt.parents,
                source=prompt.source,
                row=prompt.row,
                similarity=prompt.similarity,
            )
            for prompt in drawn
            if self._askable(prompt.text)
        )
        if not prompts:
            raise LookupError(
                f"topic {topic.name!r} has no prompt that can be asked; look at the profile's prompt database"
            )
        return Plan(
            hotkey=self._hotkey,
            netuid=self._netuid,
            round=round_id,
            topic=topic.name,
            prompts=prompts,
            prompter=self._device.prompter,
        )

    async def _candidates(self, topic: Topic, hotkeys: Iterable[str]) -> tuple[Candidates, dict[str, Uses]]:
        """Prompts near to the topic, as many of them fresh as there have to be or are, and their uses."""
        candidates = (await self._device.candidates(topic)).only(self._askable)
        uses = await self._memory.uses(candidates.ids, hotkeys)
        while (wider := await self._device.wider(candidates, uses)) is not None:
            known = set(candidates.ids)
            candidates = wider.only(self._askable)
            uses |= await self._memory.uses([found for found in candidates.ids if found not in known], hotkeys)
        return candidates, uses
