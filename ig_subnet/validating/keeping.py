"""What is done on the chain again and again, whatever becomes of the chain meanwhile."""

from __future__ import annotations

import asyncio

from loguru import logger

from ig_subnet.chain.errors import ChainError

AWAY_SECONDS = 5.0  # between two looks at a chain that does not answer


class Keeper:
    """Takes a step whenever it is time for one. `what` begins the sentence that says what has to wait for the chain.

    `held_up_by` is what the last step failed for, or found no reason to do anything for.
    """

    what: str
    held_up_by: str = ""

    async def run(self) -> None:
        """Goes on until it is cancelled."""
        pause = 0.0
        while True:
            await asyncio.sleep(pause)
            pause = await self.step()

    async def step(self) -> float:
        """Does what is due, if anything is, and returns the seconds to wait before the next look."""
        try:
            return await self._step()
        except ChainError as error:
            logger.warning("{} to wait: {}", self.what, error)
            self.held_up_by = str(error)
            return AWAY_SECONDS

    async def _step(self) -> float:
        raise NotImplementedError
