"""The weight setter on a local chain, through the SDK: every rule that the chain has for weights."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from bittensor.keyfiles import Keypair

from ig_subnet.chain import Chain, Wallet, add_stake, open_chain
from ig_subnet.localnet import Genesis, LocalNode
from ig_subnet.validating.memory import Memory
from ig_subnet.validating.records import WeightSettingRow
from ig_subnet.validating.weight_setter import ALARM, WeightSetter
from ig_subnet.validating.weighting import Shaping, Standing, Weighing

TEMPO = 10
VERSION = 7
HOTKEY = Keypair.create_from_uri("//Validator")
SHARES = {2: 0.75, 3: 0.25}


def genesis(**hyperparameters: Any) -> Genesis:
    """uid 0 is the validator, uid 1 another one with less stake."""
    subnet = {
        "netuid": 1,
        "owner": "//Charlie",
        "hyperparameters": {"tempo": TEMPO, "weights_rate_limit": 2} | hyperparameters,
        "neurons": [
            {"hotkey": "//Validator", "coldkey": "//Alice", "stake": 1000},
            {"hotkey": "//Other", "coldkey": "//Bob", "stake": 500},
            {"hotkey": "//Miner", "coldkey": "//Bob"},
            {"hotkey": "//Second", "coldkey": "//Bob"},
        ],
    }
    return Genesis.parse({"subnets": [subnet]})


@dataclass
class Validator:
    """Its weight setter, taking a step at every block; a block is a second."""

    node: LocalNode
    chain: Chain
    memory: Memory
    shares: dict[int, float] = field(default_factory=lambda: dict(SHARES))
    alarms: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.setter = WeightSetter(
            self.chain,
            HOTKEY.ss58_address,
            weigh=lambda metagraph: self.weighing(),
            record=self.memory.record_weight_setting,
            alarm=self.alarm,
            epoch_length=None,
            version_key=VERSION,
            clock=lambda: self.seconds,
        )

    def weighing(self) -> Weighing:
        standings = tuple(Standing(f"miner {uid}", uid, 0.5, 0.5, share) for uid, share in self.shares.items())
        return Weighing(self.shares, standings, 0.1, Shaping(), None, "nobody has earned anything", ())

    async def alarm(self, message: str) -> None:
        self.alarms.append(message)

    async def until_block(self, block: int) -> None:
        """A step at every block up to that one."""
        while self.node.block_number < block:
            await self.node.produce_block()
            self.seconds += 1
            await self.setter.step()

    async def settings(self) -> list[WeightSettingRow]:
        return await self.memory.with_store(lambda store: list(store.weight_settings()))

    async def outcomes(self) -> list[tuple[str, int]]:
        return [(setting.outcome, setting.block) for setting in await self.settings()]

    async def row(self) -> dict[int, float]:
        return (await self.chain.weights_on_chain()).get(0, {})


@asynccontextmanager
async def validating(folder: Path, **hyperparameters: Any) -> AsyncIterator[Validator]:
    wallet = Wallet("test", "validator", HOTKEY, Keypair.create_from_uri("//Alice").ss58_address)
    async with (
        LocalNode(genesis=genesis(**hyperparameters), instant_seal=True) as node,
        open_chain(node.endpoint, 1, wallet) as chain,
        Memory(folder / "scores.sqlite3") as memory,
    ):
        yield Validator(node, chain, memory)


async def test_weights_are_set_once_before_each_epoch_and_recorded_with_what_they_follow_from(tmp_path: Path) -> None:
    async with validating(tmp_path) as validator:
        await validator.until_block(39)
        settings = await validator.settings()
        assert [setting.outcome for setting in settings] == ["set"] * len(settings)
        assert [setting.block // TEMPO for setting in settings] == [0, 1, 2, 3]
        assert await validator.row() == pytest.approx(SHARES, abs=1e-4)
        assert settings[0].weights == SHARES
        assert settings[0].basis == validator.weighing().basis
        assert validator.alarms == []


async def test_a_rate_limit_longer_than_a_tempo_is_kept_and_is_no_alarm(tmp_path: Path) -> None:
    async with validating(tmp_path, weights_rate_limit=35) as validator:
        await validator.until_block(110)
        blocks = [block for _, block in await validator.outcomes()]
        assert len(blocks) == 3 and blocks[1] - blocks[0] >= 35 and blocks[2] - blocks[1] >= 35
        assert validator.alarms == []


async def test_a_validator_that_loses_its_permit_says_so_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    """Another one gets more stake, then this one again; permits change with the epoch."""
    async with validating(tmp_path, max_validators=1) as validator:
        await validator.until_block(19)
        assert {outcome for outcome, _ in await validator.outcomes()} == {"set"}
        other = Keypair.create_from_uri("//Other").ss58_address
        await add_stake(validator.node.endpoint, 1, Keypair.create_from_uri("//Bob"), other, 100_000)
        await validator.until_block(59)
        refused = (await validator.settings())[-1]
        assert refused.outcome in ("not_permitted", ALARM)
        assert "uid 0 holds no validator permit on subnet 1" in refused.detail
        (alarm,) = validator.alarms
        assert alarm.startswith("no weights were set for 3.")
        assert "holds no validator permit" in alarm

        await add_stake(validator.node.endpoint, 1, Keypair.create_from_uri("//Alice"), HOTKEY.ss58_address, 500_000)
        await validator.until_block(85)
        assert (await validator.outcomes())[-1][0] == "set"
        assert len(validator.alarms) == 1


async def test_the_version_key_is_read_each_time_and_a_newer_one_stops_weights(tmp_path: Path) -> None:
    async with validating(tmp_path, weights_version=VERSION) as validator:
        await validator.until_block(19)
        validator.node.state.put("WeightsVersionKey", 1, value=VERSION + 1)
        before = validator.node.block_number
        await validator.until_block(45)
        assert [outcome for outcome, block in await validator.outcomes() if block > before] == ["outdated", ALARM]
        assert validator.alarms == [
            "no weights are set any more: the subnet requires version 8, this is 7: update this software"
        ]
        validator.node.state.put("WeightsVersionKey", 1, value=VERSION)
        await validator.until_block(70)
        assert (await validator.outcomes())[-1][0] == "set"


async def test_nothing_to_say_is_not_sent_and_told_after_three_tempos(tmp_path: Path) -> None:
    async with validating(tmp_path) as validator:
        validator.shares = {}
        await validator.until_block(32)
        assert await validator.outcomes() == [(ALARM, 30)]
        assert validator.alarms == ["no weights were set for 3.0 tempos: nobody has earned anything"]
        assert await validator.row() == {}


# --- commit-reveal


def reveal(validator: Validator, shares: dict[int, float], version_key: int = VERSION) -> None:
    """What the beacon would have opened: the chain applies it with the epoch of the reveal."""
    values = [round(share * 65535) for share in shares.values()]
    validator.node.reveal(HOTKEY.ss58_address, 1, list(shares), values, version_key=version_key)


async def test_there_is_no_second_commit_before_the_reveal(tmp_path: Path) -> None:
    """Opened two epochs after their own, weights are committed every other epoch at most."""
    async with validating(tmp_path, commit_reveal_weights_enabled=True, commit_reveal_period=2) as validator:
        committed = 0
        for block in range(1, 80):
            await validator.until_block(block)
            sealed = [
                commit for epoch in validator.node.state.items("TimelockedWeightCommits", 1) for commit in epoch[1]
            ]
            assert len(sealed) <= 1
            settings = [setting for setting in await validator.settings() if setting.outcome == "committed"]
            if len(settings) > committed:
                committed = len(settings)
                validator.shares = {2: 0.5 + 0.1 * committed, 3: 0.5 - 0.1 * committed}
                reveal(validator, settings[-1].weights)
        assert committed == 4
        assert validator.alarms == []
        assert await validator.row() == pytest.approx({2: 0.7, 3: 0.3}, abs=1e-4)


async def test_a_version_key_that_changes_under_a_commit_is_an_alarm_once_it_is_to_be_opened(tmp_path: Path) -> None:
    async with validating(tmp_path, commit_reveal_weights_enabled=True, weights_version=VERSION) as validator:
        await validator.until_block(9)
        assert [outcome for outcome, _ in await validator.outcomes()] == ["committed"]
        reveal(validator, SHARES)
        validator.node.state.put("WeightsVersionKey", 1, value=VERSION + 1)
        await validator.until_block(10)
        assert await validator.row() == {}
        (alarm,) = validator.alarms
        assert alarm.startswith(
            "the weights to be opened from block 10 on have no effect: the chain has dropped them; the subnet may want "
        )
        setting = (await validator.settings())[-1]
        assert (setting.outcome, setting.block, setting.detail) == (ALARM, 10, alarm)


async def test_a_commit_that_nobody_opens_is_an_alarm(tmp_path: Path) -> None:
    async with validating(tmp_path, commit_reveal_weights_enabled=True) as validator:
        await validator.until_block(20)
        assert (await validator.outcomes())[0][0] == "committed"
        (alarm,) = validator.alarms
        assert "to be opened from block 10 on have no effect" in alarm


async def test_commit_reveal_may_be_switched_on_and_off_meanwhile(tmp_path: Path) -> None:
    async with validating(tmp_path) as validator:
        await validator.until_block(19)
        validator.node.state.put("CommitRevealWeightsEnabled", 1, value=True)
        await validator.until_block(29)
        reveal(validator, SHARES)
        await validator.until_block(31)
        validator.node.state.put("CommitRevealWeightsEnabled", 1, value=False)
        await validator.until_block(39)
        assert [outcome for outcome, _ in await validator.outcomes()] == ["set", "set", "committed", "set"]
        assert validator.alarms == []
