"""The whole subnet on this machine, offline: a chain, miners of different quality and a validator.

Goes on until N rounds are done and two consensus epochs have paid, the last of them by weights that count all N
rounds. Then stops every process, reads weights and incentives back from the chain, and leaves DIR/summary.json,
DIR/report.html, DIR/commitments.jsonl and a log of each process in DIR/logs. A second run goes on from the state in
DIR; --fresh starts anew. Exit status 0 only if weights are on the chain and every process ended cleanly.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ig_subnet.localnet.errors import LocalnetError
from ig_subnet.localnet.processes import Child, ProcessDied, Processes, free_ports, until_signalled
from ig_subnet.localnet.run_folder import Memory, RunFolder

if TYPE_CHECKING:
    from ig_subnet.chain import Chain, MetagraphSnapshot
    from ig_subnet.chain.wallets import Wallet
    from ig_subnet.config.settings import ValidatorSettings
    from ig_subnet.reporting.summary import Summary
    from ig_subnet.reporting.tables import LiveTable

ROOT = Path(__file__).resolve().parent.parent
NETUID = 1
VALIDATOR = "validator"
ROLES = ("pocket-20", "pocket-2", "pocket-1", "noise")
ROUNDS = 10
PAID_EPOCHS = 2
BLOCK_SECONDS = 1.0
TEMPO = 20  # blocks
# Ten rounds are 160 images of a miner, of which the moving average counts 147: paired images tell 20 steps from 2, and
# 2 from 1, by four standard errors after 7 and 18 (scripts/calibrate.py).
PROMPTS_PER_ROUND, IMAGES_PER_PROMPT = 4, 4
FUNDS_TAO, STAKE_TAO = 1000, 900
# Embedding the prompts takes as long as all the rest of the start: done beside it, into the cache of the validator.
BUILD_INDEX = """
from ig_subnet.config.profiles import load_profile
from ig_subnet.prompts import load_prompter
load_prompter(load_profile("pocket")["prompter"], device="cpu")
"""

# Limits of every wait, in seconds: on two free cores none takes a tenth of its own, beside a busy neighbour they do.
NODE_SECONDS = 60.0  # until the node answers
REGISTRATION_SECONDS = 120.0
SERVING_SECONDS = 600.0  # until every miner has loaded its model and is on the chain, and the validator has its permit
INDEX_SECONDS = 600.0
STALL_SECONDS = 600.0  # without a finished round or a paid epoch; the first round waits for the experts to load
END_SECONDS = 30.0  # for a process to end by itself once it is asked to
LOOK_SECONDS = 1.0


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    about, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="localnet.sh", description=about, epilog=details)
    parser.add_argument("--rounds", type=positive, default=ROUNDS, help="rounds of this run (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("localnet-out"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--fresh", action="store_true", help="remove the chain's and the neurons' state in DIR first")
    parser.add_argument("--seed", type=int, help="of wallets, topics, prompts and image seeds (default: 0)")
    parser.add_argument(
        "--miners",
        nargs="+",
        type=role,
        metavar="ROLE",
        help=f"noise, or pocket-N: the pocket model with N steps (default: {' '.join(ROLES)})",
    )
    return parser.parse_args(argv)


def positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return int(text)


def role(text: str) -> str:
    if not re.fullmatch(r"noise|pocket-[1-9]\d{0,2}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is neither noise nor pocket-N, N steps from 1 to 999")
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the subnet; returns the exit status."""
    options = parse_arguments(argv)
    from ig_subnet.chain import ChainError
    from ig_subnet.validating.errors import StoreError

    try:
        return asyncio.run(until_signalled(run_subnet(options)))
    except (LocalnetError, ProcessDied, ChainError, StoreError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


async def run_subnet(options: argparse.Namespace) -> int:
    """Starts every process when what it needs is there, watches them, and ends them; returns the exit status."""
    from ig_subnet.reporting.tables import LiveTable

    started = time.monotonic()
    folder = RunFolder(options.out)
    with folder.claimed():
        if options.fresh:
            folder.remove_state()
        memory = folder.recall(options.seed, options.miners, list(ROLES))
        set_environment(folder)
        table = LiveTable()
        async with Processes(folder.logs, os.environ) as processes:
            node_port, *ports = free_ports(1 + len(memory.miners))
            subnet = Subnet(folder, memory, f"ws://127.0.0.1:{node_port}", miners_of(memory.miners, ports))
            node = processes.start("node", subnet.node_command(node_port))
            tasks = []
            if not index_is_cached():
                tasks.append(processes.start("index", [sys.executable, "-c", BUILD_INDEX], may_finish=True))
            subnet.make_wallets()
            from ig_subnet.chain import open_chain  # the SDK, while the node starts

            async with open_chain(subnet.endpoint, NETUID, None) as chain:
                await processes.while_all_live(subnet.until_node_answers(chain))
                table.say(f"the chain serves at {subnet.endpoint}")
                await processes.while_all_live(subnet.register_all(chain))
                table.say(f"{len(subnet.wallets)} hotkeys are registered and the validator has stake")
                miners = [processes.start(f"miner-{one.name}", subnet.miner_command(one)) for one in subnet.miners]
                await processes.while_all_live(subnet.until_miners_serve(chain))
                table.say(f"{len(miners)} miners serve and the validator has its permit")
                await processes.while_all_live(subnet.until_done(tasks))
                validator = processes.start(VALIDATOR, subnet.validator_command())
                with table:
                    await processes.while_all_live(subnet.watch(chain, options.rounds, table))
                table.say("enough: stopping everything, and reading back what the chain says")
                await processes.stop([validator], grace_seconds=END_SECONDS)
                await processes.stop(miners, grace_seconds=END_SECONDS)
                snapshot, weights = await chain.metagraph(), await chain.weights_on_chain()
            await processes.stop([node], grace_seconds=END_SECONDS)
        summary = subnet.conclude(snapshot, weights, time.monotonic() - started)
        table.show_end(summary, folder.report)
        unclean = [child.describe_end() for child in (node, *tasks, *miners, validator) if not child.ended_cleanly]
        if unclean:
            raise LocalnetError(f"{'; '.join(unclean)}: see the logs in {folder.logs}")
        if not any(miner.weight for miner in summary.miners):
            raise LocalnetError(f"no weights are on the chain: see {folder.logs / VALIDATOR}.log")
        return 0


def set_environment(folder: RunFolder) -> None:
    """For this process and all it starts: no hub, one thread for each library, caches in the run's folder."""
    for name in [name for name in os.environ if name.startswith("BT_")]:
        del os.environ[name]  # the user's own wallet and network are not meant here
    os.environ |= {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        "XDG_CACHE_HOME": str(folder.cache),
        "BITTENSOR_RUNTIME_CACHE_DIR": str(folder.cache / "bittensor-runtime"),
    }


def index_is_cached() -> bool:
    """Whether an earlier run indexed prompts; if they were others, the validator indexes its own."""
    from ig_subnet.prompts.index import INDEX_MANIFEST, default_cache_directory

    return any(default_cache_directory().glob(f"*/{INDEX_MANIFEST}"))


@dataclass(frozen=True)
class Miner:
    """A miner to run: `name` is its role, numbered from the second of the same role on."""

    name: str
    role: str
    port: int


def miners_of(roles: Sequence[str], ports: Sequence[int]) -> list[Miner]:
    miners: list[Miner] = []
    for one, port in zip(roles, ports, strict=True):
        earlier = sum(miner.role == one for miner in miners)
        miners.append(Miner(f"{one}.{earlier + 1}" if earlier else one, one, port))
    return miners


@dataclass
class Subnet:
    """Who takes part and how each is started; and what to wait for between two starts."""

    folder: RunFolder
    memory: Memory
    endpoint: str
    miners: list[Miner]
    wallets: dict[str, Wallet] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return [VALIDATOR, *(miner.name for miner in self.miners)]

    @property
    def roles(self) -> dict[str, str]:
        """Each miner's hotkey and its name."""
        return {self.wallets[miner.name].hotkey_address: miner.name for miner in self.miners}

    def key_uri(self, name: str, key: str) -> str:
        """A development key that follows from the seed, so that a run can be repeated."""
        return f"//localnet-{self.memory.seed}//{name}//{key}"

    # what is started

    def node_command(self, port: int) -> list[str]:
        from ig_subnet.reporting.summary import write_text_atomically

        if not self.folder.genesis.exists():
            accounts = {self.key_uri(name, "coldkey"): FUNDS_TAO for name in self.names}
            genesis = {"accounts": accounts, "subnets": [{"netuid": NETUID, "owner": self.key_uri("owner", "coldkey")}]}
            write_text_atomically(self.folder.genesis, json.dumps(genesis, indent=2) + "\n")
        return [
            *(sys.executable, "-m", "ig_subnet.localnet", "--port", str(port)),
            *("--block-time", str(BLOCK_SECONDS), "--tempo", str(TEMPO)),
            *("--state", str(self.folder.chain), "--genesis", str(self.folder.genesis)),
        ]

    def neuron_flags(self, name: str) -> list[str]:
        return [
            *("--netuid", str(NETUID), "--subtensor.network", "local", "--subtensor.chain_endpoint", self.endpoint),
            *("--wallet.name", name, "--wallet.hotkey", "default", "--wallet.path", str(self.folder.wallets)),
            *("--neuron.root", str(self.folder.neurons), "--neuron.device", "cpu", "--neuron.torch_threads", "1"),
        ]

    def miner_command(self, miner: Miner) -> list[str]:
        model, _, steps = miner.role.partition("-")
        return [
            *(sys.executable, str(ROOT / "neurons" / "miner.py"), *self.neuron_flags(miner.name)),
            *("--axon.ip", "127.0.0.1", "--axon.port", str(miner.port), "--neuron.resync_seconds", "2"),
            *("--miner.model", model, *(("--miner.steps", steps) if steps else ())),
        ]

    def validator_flags(self) -> list[str]:
        return [
            *(*self.neuron_flags(VALIDATOR), "--profile", "pocket", "--neuron.seed", str(self.memory.seed)),
            *("--neuron.prompts_per_round", str(PROMPTS_PER_ROUND)),
            *("--neuron.images_per_prompt", str(IMAGES_PER_PROMPT), "--neuron.save_images", str(self.folder.images)),
            *("--neuron.round_seconds", "0", "--neuron.timeout", "60", "--neuron.decoder_workers", "1"),
            *("--neuron.verify_models", "pocket"),
        ]

    def validator_command(self) -> list[str]:
        self.folder.images.mkdir(exist_ok=True)
        return [sys.executable, str(ROOT / "neurons" / "validator.py"), *self.validator_flags()]

    @cached_property
    def validator_settings(self) -> ValidatorSettings:
        """As the validator itself reads its flags: where its store is, and what was left to its defaults."""
        from ig_subnet.config.settings import parse_validator_settings

        return parse_validator_settings(self.validator_flags())

    @property
    def store(self) -> Path:
        """The validator's score store."""
        from ig_subnet.validating.store import STORE_FILE

        return self.validator_settings.state_directory / STORE_FILE

    def make_wallets(self) -> None:
        """Makes, or on a second run loads, a coldkey and a hotkey for everyone."""
        from ig_subnet.chain import create_wallet, load_wallet

        for name in self.names:
            if (self.folder.wallets / name / "hotkeys" / "default").exists():
                self.wallets[name] = load_wallet(name, "default", self.folder.wallets)
            else:
                keys = {f"{key}_uri": self.key_uri(name, key) for key in ("coldkey", "hotkey")}
                self.wallets[name] = create_wallet(name, "default", self.folder.wallets, **keys)

    # what is waited for

    async def until_node_answers(self, chain: Chain) -> None:
        from ig_subnet.chain import ChainUnavailable

        async with self.within(NODE_SECONDS, "the node did not answer"):
            while True:
                with contextlib.suppress(ChainUnavailable):
                    await chain.block_number()
                    return
                await asyncio.sleep(0.1)

    async def register_all(self, chain: Chain) -> None:
        """Registers every hotkey that is not registered yet, all in the same block, and stakes on the validator's."""
        from ig_subnet.chain import add_stake, load_coldkey, register

        async def enrol(name: str) -> None:
            hotkey, coldkey = self.wallets[name].hotkey_address, load_coldkey(name, self.folder.wallets)
            neuron = snapshot.by_hotkey(hotkey)
            if neuron is None:
                await register(self.endpoint, NETUID, coldkey, hotkey)
            if name == VALIDATOR and (neuron is None or neuron.stake < STAKE_TAO / 2):
                await add_stake(self.endpoint, NETUID, coldkey, hotkey, STAKE_TAO)

        async with self.within(REGISTRATION_SECONDS, "registering and staking was not done"):
            snapshot = await chain.metagraph()
            await asyncio.gather(*map(enrol, self.names))

    async def until_miners_serve(self, chain: Chain) -> None:
        """Waits for this run's axons on the chain, and for the epoch that gives the validator its permit."""
        async with self.within(SERVING_SECONDS, "not every miner was serving, or the validator had no permit,"):
            while True:
                snapshot = await chain.metagraph()
                neurons = {name: snapshot.by_hotkey(wallet.hotkey_address) for name, wallet in self.wallets.items()}
                axons = {name: neuron.axon for name, neuron in neurons.items() if neuron and neuron.axon}
                serving = all(miner.name in axons and axons[miner.name].port == miner.port for miner in self.miners)
                validator = neurons[VALIDATOR]
                if serving and validator is not None and validator.validator_permit:
                    return
                await asyncio.sleep(LOOK_SECONDS / 2)

    async def until_done(self, tasks: Sequence[Child]) -> None:
        async with self.within(INDEX_SECONDS, "the index of the prompts was not built"):
            while any(task.alive for task in tasks):  # noqa: ASYNC110 - a process has no event
                await asyncio.sleep(LOOK_SECONDS / 10)

    async def watch(self, chain: Chain, rounds: int, table: LiveTable) -> None:
        """Looks at the store and the chain every second until this run's rounds and epochs are done."""
        from ig_subnet.reporting.epochs import EpochReading, Progress
        from ig_subnet.reporting.history import Standings
        from ig_subnet.reporting.tables import lines_of_standings

        standings, epochs = Standings(), [EpochReading(*epoch) for epoch in self.memory.paid_epochs]
        standings.update(self.store)
        validator = self.wallets[VALIDATOR].hotkey_address
        progress = Progress(standings.rounds + rounds, len(epochs) + PAID_EPOCHS, epochs, validator)
        async with self.within(STALL_SECONDS, "no round was finished and no epoch paid") as limit:
            while not progress.done:
                await asyncio.sleep(LOOK_SECONDS)
                standings.update(self.store)
                timing, snapshot = await chain.epoch_timing(None), await chain.metagraph()
                if progress.see(standings.rounds, timing, snapshot):
                    self.memory.paid_epochs = [(epoch.block, epoch.incentives) for epoch in progress.epochs]
                    self.folder.remember(self.memory)
                    limit.reschedule(asyncio.get_running_loop().time() + STALL_SECONDS)
                shares = self.own_weights(snapshot, await chain.weights_on_chain())
                table.update(lines_of_standings(self.roles, standings, snapshot, shares), str(progress))

    @contextlib.asynccontextmanager
    async def within(self, seconds: float, complaint: str) -> AsyncIterator[asyncio.Timeout]:
        """Ends the block, with a complaint, after so many seconds."""
        try:
            async with asyncio.timeout(seconds) as limit:
                yield limit
        except TimeoutError as error:
            raise LocalnetError(f"{complaint} within {seconds:.0f} s: see the logs in {self.folder.logs}") from error

    # what it leaves

    def own_weights(self, snapshot: MetagraphSnapshot, weights: dict[int, dict[int, float]]) -> dict[int, float]:
        """The validator's row of the weights: uid -> share."""
        validator = snapshot.by_hotkey(self.wallets[VALIDATOR].hotkey_address)
        return weights.get(validator.uid, {}) if validator else {}

    def conclude(self, snapshot: MetagraphSnapshot, weights: dict[int, dict[int, float]], seconds: float) -> Summary:
        """Writes summary.json, report.html and commitments.jsonl from the store and what was read from the chain."""
        from ig_subnet.reporting.epochs import EpochReading
        from ig_subnet.reporting.history import Standings, read_history
        from ig_subnet.reporting.html import Run, write_report
        from ig_subnet.reporting.prompts import write_commitments
        from ig_subnet.reporting.summary import MinerSummary, Summary, installed_versions, write_summary
        from ig_subnet.reporting.tables import lines_of_standings

        standings = Standings()
        standings.update(self.store)
        lines = lines_of_standings(self.roles, standings, snapshot, self.own_weights(snapshot, weights))
        lines.sort(key=lambda line: line.uid)
        hotkeys = {name: hotkey for hotkey, name in self.roles.items()}
        summary = Summary(
            netuid=NETUID,
            rounds=standings.rounds,
            epochs=len(self.memory.paid_epochs),
            seconds=round(seconds, 2),
            miners=tuple(MinerSummary(hotkey=hotkeys[line.role], **asdict(line)) for line in lines),
            versions=installed_versions(),
        )
        neuron = self.validator_settings.neuron
        facts = {
            "seed": str(self.memory.seed),
            "chain": f"{BLOCK_SECONDS:g} s a block, {TEMPO} blocks an epoch",
            "asked in a round": f"{neuron.prompts_per_round} prompts, {neuron.images_per_prompt} images each",
            "moving average": f"alpha {neuron.moving_average_alpha:g}",
            "weights": f"moving average, limited while it is uncertain, to the power of {neuron.weight_exponent:g}",
        }
        epochs = tuple(EpochReading(*epoch) for epoch in self.memory.paid_epochs)
        run = Run(summary, read_history(self.store), self.folder.images, epochs, facts)
        write_report(self.folder.report, run)
        write_commitments(self.folder.commitments, run.history.commitments)
        write_summary(self.folder.summary, summary)
        return summary


if __name__ == "__main__":
    sys.exit(main())
