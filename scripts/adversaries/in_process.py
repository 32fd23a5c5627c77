"""All contestants and a validator in this process, on a chain that seals at once, with answers whose time is told.

Two such subnets ask the same prompts with the same seeds, one with every gate off and one as the profile has them;
each answer is made once and given to both.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageFile

from adversaries.answers import SILENT, Answer, Lab
from adversaries.copies import Middleman
from adversaries.results import Row, gate_name, rows_of
from adversaries.roster import VICTIM, Contestant
from ig_subnet.config.profiles import load_profile
from ig_subnet.config.settings import BlacklistSettings
from ig_subnet.imaging import ImageError
from protocol import QueryResult, QueryStatus, Target, TextToImageSynapse

if TYPE_CHECKING:
    from ig_subnet.chain import MetagraphSnapshot
    from ig_subnet.localnet import LocalNode
    from ig_subnet.validating.device import Device
    from ig_subnet.validating.round import Decode
    from neurons.validator import ValidatorNeuron

NETUID, TEMPO = 1, 20
STAKE_TAO = 1000
VALIDATOR = "validator"
DEADLINE_SECONDS = 30
VERIFY_SECONDS = 120  # several times the default: here the validator shares a processor with all adversaries


class Arena:
    """Who answers under which hotkey, in the place of dendrite and axons."""

    def __init__(self, contestants: Sequence[Contestant]) -> None:
        from bittensor.keyfiles import Keypair

        self.contestants = contestants
        self.names = [name for contestant in contestants for name in contestant.names]
        self.hotkeys = {name: Keypair.create_from_uri(f"//{name}").ss58_address for name in self.names}
        self._adversaries = {self.hotkeys[name]: one.adversary for one in contestants for name in one.names}
        self.loading = asyncio.Lock()  # models are loaded one after the other: accelerate's empty weights are global
        self._made: dict[tuple[str, str, int], asyncio.Task[Answer]] = {}

    async def answer(self, hotkey: str, synapse: TextToImageSynapse) -> Answer:
        """What a hotkey answers to a query, made once however often it is asked."""
        key = hotkey, synapse.prompt, synapse.seed
        if key not in self._made:
            self._made[key] = asyncio.ensure_future(self._adversaries[hotkey].answer(synapse))
        return await asyncio.shield(self._made[key])

    async def ask(self, doors: Doors, target: Target, synapse: TextToImageSynapse) -> QueryResult:
        """As `Dendrite.query`, on a subnet whose honest miners keep these `doors`."""
        if isinstance(self._adversaries[target.hotkey], Middleman):
            victim = self.hotkeys[VICTIM]
            answer = await self.answer(victim, synapse) if doors.let_in(target.hotkey) else SILENT
        else:
            answer = await self.answer(target.hotkey, synapse)
        if answer.images and answer.seconds <= synapse.deadline_seconds:
            return QueryResult(target, QueryStatus.ANSWERED, answer.images, answer.seconds)
        return QueryResult(target, QueryStatus.TIMEOUT, (), synapse.deadline_seconds, "no answer in time")


class Doors:
    """Whom the axon of an honest miner lets in: callers with a validator permit, or, `open`, everyone."""

    def __init__(self, metagraph: MetagraphSnapshot, *, open: bool) -> None:
        from ig_subnet.mining.admission import Admission

        rules = BlacklistSettings(force_validator_permit=not open, allow_non_registered=open)
        self._admission = Admission(rules)
        self._admission.update(metagraph)

    def let_in(self, hotkey: str) -> bool:
        return self._admission.refuse(hotkey) is None


async def play(arena: Arena, gates: bool, folder: Path, options: Any) -> list[Row]:
    """The rows of a subnet with all `gates` of the profile or none, after `options.rounds` rounds and an epoch."""
    async with subnet(arena, gates, folder / gate_name(gates), options) as (node, validator):
        for _ in range(options.rounds):
            await validator.run_one_round()
        await validator.weight_setter().step()
        before = (await validator.chain.epoch_timing(None)).last_epoch_block
        while (await validator.chain.epoch_timing(None)).last_epoch_block == before:
            await node.produce_block()
        metagraph = await validator.chain.metagraph()
    from ig_subnet.validating.store import STORE_FILE

    store = validator.settings.state_directory / STORE_FILE
    return rows_of(arena.contestants, arena.hotkeys, gate_name(gates), metagraph, store)


@asynccontextmanager
async def subnet(
    arena: Arena, gates: bool, folder: Path, options: Any
) -> AsyncIterator[tuple[LocalNode, ValidatorNeuron]]:
    """A chain on which every contestant serves, and a validator that holds all the stake."""
    from ig_subnet.chain import create_wallet, open_chain
    from ig_subnet.config.settings import parse_validator_settings
    from ig_subnet.imaging import DecoderPool
    from ig_subnet.localnet import Genesis, LocalNode
    from ig_subnet.reporting.wandb_log import open_run
    from ig_subnet.validating.memory import Memory
    from ig_subnet.validating.store import STORE_FILE
    from neurons.validator import ValidatorNeuron, load_regenerator

    neurons: list[dict[str, Any]] = [{"hotkey": f"//{VALIDATOR}", "coldkey": "//Owner", "stake": STAKE_TAO}]
    neurons += [{"hotkey": f"//{name}", "coldkey": "//Owner"} for name in arena.names]
    hyperparameters = {"tempo": TEMPO, "weights_rate_limit": 0}
    on_chain = {"netuid": NETUID, "owner": "//Owner", "hyperparameters": hyperparameters, "neurons": neurons}
    wallets = {
        name: create_wallet("owner", name, folder / "wallets", coldkey_uri="//Owner", hotkey_uri=f"//{name}")
        for name in (VALIDATOR, *arena.names)
    }
    async with AsyncExitStack() as stack:
        genesis = Genesis.parse({"accounts": {"//Owner": 1000}, "subnets": [on_chain]})
        node = await stack.enter_async_context(LocalNode(genesis, instant_seal=True))
        for port, name in enumerate(arena.names, 1):  # nobody calls it: `Arena.ask` takes the place of the wire
            async with open_chain(node.endpoint, NETUID, wallets[name]) as chain:
                await chain.serve_axon("127.0.0.1", port)
        settings = parse_validator_settings(
            [
                *("--subtensor.network", "local", "--subtensor.chain_endpoint", node.endpoint),
                *("--wallet.name", "owner", "--wallet.hotkey", VALIDATOR, "--wallet.path", str(folder / "wallets")),
                *("--neuron.root", str(folder), "--neuron.seed", str(options.seed), "--neuron.epoch_length", "1"),
                *("--neuron.prompts_per_round", str(options.prompts), "--neuron.timeout", str(DEADLINE_SECONDS)),
                *("--neuron.images_per_prompt", str(options.images), "--neuron.device", "cpu"),
                *("--neuron.verify_seconds", str(VERIFY_SECONDS)),
                *(verifying(options.profile) if gates else ()),
            ]
        )
        memory = await stack.enter_async_context(Memory(settings.state_directory / STORE_FILE))
        async with arena.loading:
            device = await stack.enter_async_context(device_of(options.profile, gates, folder))
            verify = await load_regenerator(settings, device, memory) if settings.neuron.verify_models else None
        chain = await stack.enter_async_context(open_chain(node.endpoint, NETUID, wallets[VALIDATOR]))
        decode: Decode = trusting_decode
        if gates:
            decode = (await stack.enter_async_context(DecoderPool(1))).decode
        metagraph = await chain.metagraph()
        yield (
            node,
            ValidatorNeuron(
                settings,
                wallets[VALIDATOR].hotkey_address,
                chain,
                metagraph,
                memory,
                device,
                decode,
                partial(arena.ask, Doors(metagraph, open=not gates)),
                open_run(settings, 0),
                verify,
            ),
        )


@asynccontextmanager
async def device_of(profile: str, gates: bool, folder: Path) -> AsyncIterator[Device]:
    """Experts and prompts of a profile, with its gates or without."""
    from ig_subnet.validating.device import Device, load_models

    path = write_profile(folder, profile, gates)
    async with Device(partial(load_models, str(path), "cpu", 1, pays_strangers=False)) as device:
        yield device


def verifying(profile: str) -> list[str]:
    """A validator's flags to verify every model that the profile has a threshold for: that gate has to be asked for."""
    regeneration = (load_profile(profile)["gates"] or {}).get("regeneration") or {"models": ()}
    return [flag for model in regeneration["models"] for flag in ("--neuron.verify_models", model)]


def write_profile(folder: Path, profile: str, gates: bool) -> Path:
    """A profile's file as it is, or with every gate off: nothing but the experts' scores of the images as they are."""
    content = load_profile(profile)
    if not gates:
        content["gates"] = None
        content["rewarder"]["robust"] = None
    path = folder / "profile.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


async def trusting_decode(
    data: bytes, *, expected_format: str, expected_size: tuple[int, int], max_pixels: int
) -> NDArray[np.uint8]:
    """As `DecoderPool.decode` without its checks: whatever Pillow makes of a file, of any format, size or length."""
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB").resize(expected_size, Image.Resampling.BOX))
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageError("does not decode") from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False


def load_lab(profile: str) -> Lab:
    """The attackers' own copies of what is public: the pocket model, and the experts of the profile."""
    from adversaries.ascent import start_climber
    from adversaries.experts import load_climbable
    from ig_subnet.config.settings import parse_miner_settings
    from ig_subnet.mining.generators import load_generator
    from ig_subnet.rewards import load_mixture
    from ig_subnet.validating.gate_settings import GateSettings

    content = load_profile(profile)
    rewarder = content["rewarder"]
    flags = "--subtensor.network local --neuron.device cpu --neuron.torch_threads 1"
    generator = load_generator(parse_miner_settings(flags.split()))
    gates = GateSettings.parse(content["gates"], profile)
    return Lab(generator, load_mixture(rewarder, device="cpu"), load_climbable(rewarder), gates, start_climber(profile))
