"""The same subnets in real processes: a node, honest miners, the adversaries' axons, and a validator."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adversaries.in_process import NETUID, STAKE_TAO, TEMPO, VALIDATOR, verifying, write_profile
from adversaries.results import Row, gate_name, rows_of
from adversaries.roster import HONEST_STEPS, VICTIM, Contestant, Size
from ig_subnet.localnet.processes import Processes, free_ports

if TYPE_CHECKING:
    from ig_subnet.chain import Chain

ROOT = Path(__file__).resolve().parents[2]
OPEN_DOORS = ("--no-blacklist.force_validator_permit", "--blacklist.allow_non_registered")
BLOCK_SECONDS = 1.0

# Limits of every wait, in seconds.
NODE_SECONDS = 60.0
SERVING_SECONDS = 600.0  # until every model is loaded and every axon on the chain
ROUND_SECONDS = 900.0  # for a round, or an epoch after the last one
END_SECONDS = 30.0
LOOK_SECONDS = 1.0


async def play(contestants: Sequence[Contestant], size: Size, gates: bool, folder: Path, options: Any) -> list[Row]:
    """The rows of a subnet of processes, with all gates of the profile or none; its logs and state stay in `folder`.

    Raises ProcessDied where a process ends by itself, TimeoutError where one of the waits above is over.
    """
    from ig_subnet.chain import create_wallet, open_chain

    folder = folder / gate_name(gates)
    names = [name for one in contestants for name in one.names]
    wallets = {
        name: create_wallet("owner", name, folder / "wallets", coldkey_uri="//Owner", hotkey_uri=f"//{name}")
        for name in (VALIDATOR, *names)
    }
    hotkeys = {name: wallet.hotkey_address for name, wallet in wallets.items()}
    honest = [name for one in contestants if one.honest for name in one.names]
    node_port, *free = free_ports(1 + len(honest))
    endpoint, ports = f"ws://127.0.0.1:{node_port}", dict(zip(honest, free, strict=True))
    write_inputs(folder, endpoint, hotkeys, ports[VICTIM], size, gates, options)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("BT_")} | {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT / "scripts"), os.environ.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
    }
    async with Processes(folder / "logs", environment) as processes:
        processes.start("node", node_command(folder, node_port))
        async with open_chain(endpoint, NETUID, None) as chain:
            await processes.while_all_live(until_node_answers(chain))
            for name, steps in zip(honest, HONEST_STEPS, strict=True):
                doors = OPEN_DOORS if name == VICTIM and not gates else ()
                processes.start(name, [*miner_command(folder, endpoint, name, ports[name], steps), *doors])
            processes.start("adversaries", [sys.executable, "-m", "adversaries.serve", str(folder / "plan.json")])
            await processes.while_all_live(until_all_serve(chain, [hotkeys[name] for name in names]))
            proof = verifying(options.profile) if gates else ()
            processes.start(VALIDATOR, [*validator_command(folder, endpoint, options), *proof])
            store = store_of(folder, endpoint, options)
            await processes.while_all_live(until_paid(chain, store, options.rounds))
            metagraph = await chain.metagraph()
        await processes.stop(processes.children, grace_seconds=END_SECONDS)
    return rows_of(contestants, hotkeys, gate_name(gates), metagraph, store)


# --- what is started


def write_inputs(
    folder: Path,
    endpoint: str,
    hotkeys: Mapping[str, str],
    victim_port: int,
    size: Size,
    gates: bool,
    options: Any,
) -> None:
    """The chain's genesis, the validator's profile, and the adversaries' plan."""
    stakes = {VALIDATOR: {"stake": STAKE_TAO}}
    neurons = [{"hotkey": f"//{name}", "coldkey": "//Owner", **stakes.get(name, {})} for name in hotkeys]
    subnet = {"netuid": NETUID, "owner": "//Owner", "neurons": neurons}
    genesis = {"accounts": {"//Owner": 1000}, "subnets": [subnet]}
    (folder / "genesis.json").write_text(json.dumps(genesis), encoding="utf-8")
    write_profile(folder, options.profile, gates)
    plan = {
        "endpoint": endpoint,
        "wallets": str(folder / "wallets"),
        "profile": options.profile,
        "sybils": size.sybils,
        "every_ascent": size.every_ascent,
        "victim": {"hotkey": hotkeys[VICTIM], "port": victim_port},
    }
    (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")


def node_command(folder: Path, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "ig_subnet.localnet", "--port", str(port), "--block-time", str(BLOCK_SECONDS)),
        *("--tempo", str(TEMPO), "--state", str(folder / "chain"), "--genesis", str(folder / "genesis.json")),
    ]


def neuron_flags(folder: Path, endpoint: str, name: str) -> list[str]:
    return [
        *("--netuid", str(NETUID), "--subtensor.network", "local", "--subtensor.chain_endpoint", endpoint),
        *("--wallet.name", "owner", "--wallet.hotkey", name, "--wallet.path", str(folder / "wallets")),
        *("--neuron.root", str(folder), "--neuron.device", "cpu", "--neuron.torch_threads", "1"),
    ]


def miner_command(folder: Path, endpoint: str, name: str, port: int, steps: int) -> list[str]:
    return [
        *(sys.executable, str(ROOT / "neurons" / "miner.py"), *neuron_flags(folder, endpoint, name)),
        *("--axon.ip", "127.0.0.1", "--axon.port", str(port), "--miner.steps", str(steps)),
    ]


def validator_flags(folder: Path, endpoint: str, options: Any) -> list[str]:
    return [
        *(*neuron_flags(folder, endpoint, VALIDATOR), "--profile", str(folder / "profile.yaml")),
        *("--neuron.seed", str(options.seed), "--neuron.prompts_per_round", str(options.prompts)),
        *("--neuron.images_per_prompt", str(options.images), "--neuron.timeout", str(options.timeout)),
        *("--neuron.round_seconds", "0", "--neuron.decoder_workers", "1"),
    ]


def validator_command(folder: Path, endpoint: str, options: Any) -> list[str]:
    return [sys.executable, str(ROOT / "neurons" / "validator.py"), *validator_flags(folder, endpoint, options)]


def store_of(folder: Path, endpoint: str, options: Any) -> Path:
    """The validator's score store, by its own reading of its flags."""
    from ig_subnet.config.settings import parse_validator_settings
    from ig_subnet.validating.store import STORE_FILE

    return parse_validator_settings(validator_flags(folder, endpoint, options)).state_directory / STORE_FILE


# --- what is waited for


async def until_node_answers(chain: Chain) -> None:
    from ig_subnet.chain import ChainUnavailable

    async with asyncio.timeout(NODE_SECONDS):
        while True:
            with contextlib.suppress(ChainUnavailable):
                await chain.block_number()
                return
            await asyncio.sleep(LOOK_SECONDS)


async def until_all_serve(chain: Chain, hotkeys: Sequence[str]) -> None:
    async with asyncio.timeout(SERVING_SECONDS):
        while True:
            serving = {neuron.hotkey for neuron in (await chain.metagraph()).neurons if neuron.axon}
            if serving.issuperset(hotkeys):
                return
            await asyncio.sleep(LOOK_SECONDS)


async def until_paid(chain: Chain, store: Path, rounds: int) -> None:
    """Waits until an epoch has paid by weights that count so many rounds of the store."""
    from ig_subnet.validating.errors import StoreMissing
    from ig_subnet.validating.store import ScoreStore

    async with asyncio.timeout(ROUND_SECONDS * (rounds + 1)):
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                with ScoreStore.open_read_only(store) as records:
                    finished = [row.finished_at for row in records.rounds()]
                    settings = [row for row in records.weight_settings() if row.outcome == "set"]
            except StoreMissing:
                continue
            counting = [row.block for row in settings if len(finished) >= rounds and row.at > finished[rounds - 1]]
            if counting and (await chain.epoch_timing(None)).last_epoch_block > counting[0]:
                return
