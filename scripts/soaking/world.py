"""What goes on around the validator of scripts/soak.py: time, blocks, and a metagraph in which miners come and go."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from made_up_subnet import neuron
from soaking.miners import FAULTS, HONEST, SimulatedMiners

from ig_subnet.chain import MetagraphSnapshot

FAULTY_SHARE = 0.3
ROUND_SECONDS, BLOCKS_A_ROUND = 600.0, 50
BRIGHTNESS = 0.35, 0.75  # of miners, from the worst to the best
OWN_HOTKEY = "5validator".ljust(48, "v")

# In a round
CHAIN_IS_AWAY = DECODERS_FAIL = 0.02
REGISTERS_AGAIN = 0.04
VANISHES, LONGEST_ABSENCE = 0.05, 20  # rounds
MOVES_AXON = 0.1


@dataclass
class Slot:
    """A uid and the miner that has it, which is away from the metagraph for so many rounds and may serve an axon."""

    uid: int
    role: str
    hotkey: str
    registered_at: int = 1
    away: int = 0
    serves: bool = True


@dataclass
class World:
    """`count` miners, and the validator under the next uid; all that happens follows from `seed`."""

    count: int
    seed: int
    now: float = 1.8e9
    block: int = 1000
    chain_is_away: bool = False
    decoders_fail: bool = False
    miners: SimulatedMiners = field(default_factory=SimulatedMiners)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self.slots = []
        for uid in range(self.count):
            role = FAULTS[uid % len(FAULTS)] if uid < FAULTY_SHARE * self.count else HONEST
            self.slots.append(Slot(uid, role, self._new_hotkey(uid, role)))

    def clock(self) -> float:
        """Seconds since the epoch."""
        return self.now

    def advance(self) -> None:
        """On to the next round."""
        self.now += ROUND_SECONDS
        self.block += BLOCKS_A_ROUND
        self.chain_is_away = self._chance.random() < CHAIN_IS_AWAY
        self.decoders_fail = self._chance.random() < DECODERS_FAIL
        for slot in self.slots:
            slot.away = max(0, slot.away - 1)
            match slot.role:
                case "re_registers" if self._chance.random() < REGISTERS_AGAIN:
                    slot.registered_at = self.block
                case "gives_way" if self._chance.random() < REGISTERS_AGAIN:
                    slot.registered_at = self.block
                    slot.hotkey = self._new_hotkey(slot.uid, slot.role)
                case "vanishes" if not slot.away and self._chance.random() < VANISHES:
                    slot.away = self._chance.randint(1, LONGEST_ABSENCE)
                case "withdraws" if self._chance.random() < MOVES_AXON:
                    slot.serves = not slot.serves

    def snapshot(self) -> MetagraphSnapshot:
        """The metagraph; where a miner is away, somebody who serves nothing has its uid."""
        neurons = [
            neuron(slot.uid, f"5nobody{slot.uid}".ljust(48, "n"), self.block, axon=False)
            if slot.away
            else neuron(slot.uid, slot.hotkey, slot.registered_at, axon=slot.serves)
            for slot in self.slots
        ]
        own = neuron(self.count, OWN_HOTKEY, axon=False)
        return MetagraphSnapshot(1, self.block, (*neurons, own))

    def role_of(self, hotkey: str) -> str:
        return self.miners.roles[hotkey]

    def _new_hotkey(self, uid: int, role: str) -> str:
        hotkey = f"5{role}{uid}at{self.block}".replace("_", "").ljust(48, "x")
        self.miners.roles[hotkey] = role
        self.miners.brightness[hotkey] = self._chance.uniform(*BRIGHTNESS)
        return hotkey
