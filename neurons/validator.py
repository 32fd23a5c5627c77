"""The validator of the subnet: asks miners for images, scores them, and sets weights by what they have earned.

    python neurons/validator.py --netuid 1 --subtensor.network local --wallet.name W --wallet.hotkey H

A round draws a topic and prompts for it that its miners have not had, commits to them, sends each to the sampled
miners, decodes and scores what returns, and moves their averages. Beside the rounds, weights are set before each epoch.
It ends after --neuron.rounds, or on SIGINT or SIGTERM, with status 0; with status 1 and one line that says why, when it
cannot go on. Started again, it goes on where it was.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from loguru import logger

from ig_subnet import __spec_version__, __version__
from ig_subnet.chain import Chain, ChainError, MetagraphSnapshot, Presence, wait_for_chain
from ig_subnet.config.profiles import ProfileError
from ig_subnet.config.settings import GeneratorSettings, ValidatorSettings, parse_validator_settings
from ig_subnet.imaging import DecoderError, DecoderPool
from ig_subnet.reporting.wandb_log import WandbError, WandbRun, open_run
from ig_subnet.validating.answers import Ask, Decode, RoundSettings
from ig_subnet.validating.describe import describe_round, round_figures
from ig_subnet.validating.device import Device, load_models
from ig_subnet.validating.errors import NobodyAnswered, NotRegistered, ProfileUnusable, RoundError, ValidatingError
from ig_subnet.validating.history import History
from ig_subnet.validating.memory import Memory
from ig_subnet.validating.plans import Planner
from ig_subnet.validating.publishing import HeadPublisher
from ig_subnet.validating.record_service import AddressPublisher, RecordService
from ig_subnet.validating.regeneration import DISTRUSTED_ROUNDS, Regenerator, Verify
from ig_subnet.validating.retention import Retention
from ig_subnet.validating.round import is_askable, run_round
from ig_subnet.validating.sampling import miners_of
from ig_subnet.validating.store import STORE_FILE
from ig_subnet.validating.weight_setter import WeightSetter
from ig_subnet.validating.weighting import Shaping, Weighing, weigh
from protocol import ProtocolError

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
IDLE_SECONDS = 2.0  # the shortest pause after a round that did not take place
VOID_ROUNDS = 3  # in a row: then the device is broken for good, and a supervisor's restart may mend it
OUTAGE_SECONDS = 30.0  # the shortest pause after a round in which nobody answered


def main(argv: Sequence[str] | None = None) -> int:
    """Validates until it is told to stop; returns the exit status."""
    settings = parse_validator_settings(argv)
    logger.remove()
    logger.add(sys.stderr, level=settings.logging.level)
    try:
        asyncio.run(validate(settings))
    except (ValidatingError, ChainError, ProfileError, DecoderError, WandbError, ProtocolError, OSError) as error:
        logger.error("{}", error)
        return 1
    return 0


async def validate(settings: ValidatorSettings) -> None:
    """Runs the validator until its rounds are done or a signal arrives."""
    running = asyncio.ensure_future(compose_and_run(settings))

    def stop() -> None:
        if not running.cancelling():  # a second signal does not break off the closing that the first has begun
            running.cancel()

    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        await running
    except asyncio.CancelledError:
        logger.info("stopped by a signal; the next start goes on after the last recorded round")
    finally:  # all is closed; a signal while the interpreter takes itself down must not change the exit status
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)


async def compose_and_run(settings: ValidatorSettings) -> None:
    """Opens everything the validator works with, cheapest to fail first, and closes all of it whatever happens."""
    # these bring the SDK and aiohttp, which --help can do without
    from ig_subnet.chain import coldkey_warning, load_wallet, open_chain
    from ig_subnet.chain.auth import BtAuthVerifier, KeypairSigner
    from protocol import Dendrite, RecordServer

    wallet = load_wallet(settings.wallet.name, settings.wallet.hotkey, settings.wallet.path)
    hotkey = wallet.hotkey_address
    if not settings.subtensor.is_local and (warning := coldkey_warning(settings.wallet.name, settings.wallet.path)):
        logger.warning("{}", warning)
    logger.info(
        "validator {}, hotkey {}, subnet {} of {}", __version__, hotkey, settings.netuid, settings.subtensor.target
    )
    if settings.neuron.save_images is not None:
        settings.neuron.save_images.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        memory = await stack.enter_async_context(Memory(settings.state_directory / STORE_FILE))
        chain = await stack.enter_async_context(open_chain(settings.subtensor.target, settings.netuid, wallet))
        metagraph = await wait_for_chain(chain)
        uid = own_uid(metagraph, hotkey, settings)
        load = partial(
            load_models,
            settings.profile,
            settings.neuron.device,
            settings.neuron.torch_threads,
            pays_strangers=settings.pays_strangers,
        )
        device = await stack.enter_async_context(Device(load))
        verify = await load_regenerator(settings, device, memory) if settings.neuron.verify_models else None
        decoders = await stack.enter_async_context(DecoderPool(settings.neuron.decoder_workers))
        signer, verifier = KeypairSigner(wallet.hotkey), BtAuthVerifier(hotkey)
        dendrite = await stack.enter_async_context(
            Dendrite(signer, verifier, allow_private=settings.allow_private_axons)
        )
        wandb_run = open_run(settings, uid)
        stack.callback(wandb_run.finish)
        logger.info("uid {}, profile {}, {} miners remembered", uid, settings.profile, len(memory.miners))

        neuron = ValidatorNeuron(
            settings, hotkey, chain, metagraph, memory, device, decoders.decode, dendrite.query, wandb_run, verify
        )
        jobs = [
            neuron.run_rounds(),
            neuron.keep_weights_set(),
            neuron.keep_head_published(),
            neuron.keep_within_limits(),
        ]
        if (axon := settings.axon).port is not None:
            records = await stack.enter_async_context(
                RecordService(settings.state_directory / STORE_FILE, lambda: neuron.metagraph)
            )
            server = RecordServer(records, signer, verifier, host=axon.ip, port=axon.port, policy=records.refuse)
            publisher = AddressPublisher(chain, hotkey, server, axon, lambda: neuron.metagraph)
            jobs += [server.serve(), publisher.run()]
        await until_first_ends(*jobs)


@dataclass
class ValidatorNeuron:
    """The validator at work; `metagraph` is the last one that the chain has shown, `clock` the time since the epoch."""

    settings: ValidatorSettings
    hotkey: str
    chain: Chain
    metagraph: MetagraphSnapshot
    memory: Memory
    device: Device
    decode: Decode
    ask: Ask
    wandb_run: WandbRun
    verify: Verify | None = None
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self.presence = Presence(self.hotkey)
        self._history: History | None = None

    async def run_rounds(self) -> None:
        """Round after round. What goes wrong in one voids it; three void ones in a row end the validator, but not where
        nobody answered: a restart does not mend a network."""
        wanted, done, void = self.settings.neuron.rounds, 0, 0
        while not wanted or done < wanted:
            least = IDLE_SECONDS
            try:
                took_place = await self.run_one_round()
                void = 0
            except NobodyAnswered as error:
                took_place, least = False, OUTAGE_SECONDS
                logger.error("{}", error)
            except RoundError as error:
                took_place = False
                void += 1
                if void == VOID_ROUNDS:
                    raise RoundError(f"{void} rounds in a row failed, the last: {error}") from error
                logger.error("{}", error)
            done += took_place
            if not wanted or done < wanted:
                pause = self.settings.neuron.round_seconds
                await asyncio.sleep(pause if took_place else max(pause, least))

    async def run_one_round(self) -> bool:
        """Asks what the plan says, scores, remembers, and plans the next; False if there is nobody to ask."""
        neuron = self.settings.neuron
        await self.resync()
        miners = miners_of(self.metagraph, self.hotkey, self.memory.miners)
        if not miners:
            logger.info("no miner serves an axon on subnet {} yet", self.settings.netuid)
            return False
        planner = self.planner()
        committed = await planner.next_plan(miners, self.metagraph.block)
        sample = planner.sample(miners, committed.plan.round, committed.secret)
        history = await self.history()
        try:
            result = await run_round(
                committed.plan,
                self.metagraph.block,
                [miners[hotkey] for hotkey in sample],
                secret=committed.secret,
                settings=RoundSettings(
                    images=neuron.images_per_prompt,
                    width=neuron.image_width,
                    height=neuron.image_height,
                    steps=neuron.steps,
                    timeout_seconds=neuron.timeout,
                    save_images=neuron.save_images,
                ),
                device=self.device,
                ask=self.ask,
                decode=self.decode,
                history=history,
                verify=self.verify,
                known={hotkey for hotkey, miner in self.memory.miners.items() if miner.accumulator > 0},
                clock=self.clock,
            )
        except RoundError:  # some may have seen the prompts: this plan is not asked again
            await self.memory.give_up(committed)
            raise
        record = await self.memory.remember(
            result,
            self.metagraph,
            alpha=neuron.moving_average_alpha,
            absence_seconds=neuron.absence_hours * 3600,
            commitment=committed.number,
        )
        if history is not None:
            await asyncio.to_thread(history.add_round, record)
        logger.info("{}", describe_round(record))
        await asyncio.to_thread(self.wandb_run.log_round, round_figures(record))
        try:
            await planner.next_plan(miners, self.metagraph.block)
        except RoundError as error:  # this one took place; the next one begins with another attempt
            logger.warning("{}", error)
        return True

    async def history(self) -> History | None:
        """The images of earlier rounds, read from the store before the first; None where no gate looks at them."""
        gate = self.device.gates.duplicates
        if self._history is None and gate is not None and gate.history:
            self._history = await self.memory.with_store(partial(History.recalled, gate))
        return self._history

    def planner(self) -> Planner:
        """What plans the rounds by what has been asked so far."""
        return Planner(
            self.device,
            self.memory,
            hotkey=self.hotkey,
            netuid=self.settings.netuid,
            prompts=self.settings.neuron.prompts_per_round,
            sample_size=self.settings.neuron.sample_size,
            askable=is_askable,
            seed=self.settings.neuron.seed,
        )

    async def resync(self) -> None:
        """Looks at the chain; while it is away or talks nonsense, goes on with what it last showed.

        Raises NotRegistered.
        """
        try:
            shown = await self.chain.metagraph()
        except ChainError as error:
            logger.warning("going on with the metagraph of block {}: {}", self.metagraph.block, error)
            return
        if self.presence.believes(shown):
            self.metagraph = shown
            own_uid(self.metagraph, self.hotkey, self.settings)
        else:
            logger.warning(
                "going on with the metagraph of block {}: this hotkey is not in that of block {}",
                *(self.metagraph.block, shown.block),
            )

    async def keep_weights_set(self) -> None:
        """Sets weights whenever they are due, beside the rounds."""
        if self.settings.neuron.disable_set_weights:
            logger.info("weights are not set: --neuron.disable_set_weights")
            await asyncio.Event().wait()
        await self.weight_setter().run()

    def weight_setter(self) -> WeightSetter:
        """What sets weights when they are due."""
        return WeightSetter(
            self.chain,
            self.hotkey,
            weigh=self.weigh,
            record=self.memory.record_weight_setting,
            alarm=self.report_alarm,
            epoch_length=self.settings.neuron.epoch_length,
            version_key=__spec_version__,
        )

    def weigh(self, metagraph: MetagraphSnapshot) -> Weighing:
        """The weights that follow from the moving averages of the moment."""
        neuron = self.settings.neuron
        shaping = Shaping(
            kind=neuron.weight_shaping,
            exponent=neuron.weight_exponent,
            temperature=neuron.weight_temperature,
            floor=neuron.weight_floor,
            burn=neuron.weight_burn,
        )
        return weigh(self.memory.miners, metagraph, self.hotkey, alpha=neuron.moving_average_alpha, shaping=shaping)

    async def report_alarm(self, message: str) -> None:
        """Tells Weights & Biases of weights that are not set, where that is on."""
        await asyncio.to_thread(self.wandb_run.log_round, {"weights_alarm": message})

    async def keep_head_published(self) -> None:
        """Publishes the newest commitment once an epoch, beside the rounds, where that is wanted."""
        if not self.settings.neuron.publish_commitments:
            await asyncio.Event().wait()
        await HeadPublisher(self.chain, self.hotkey, self.memory.newest_head).run()

    async def keep_within_limits(self) -> None:
        """Forgets the oldest rounds and saved images, beside the rounds, as far as that is wanted."""
        await self.retention().run()

    def retention(self) -> Retention:
        """What forgets."""
        neuron = self.settings.neuron
        gate = self.device.gates.duplicates
        return Retention(
            self.memory,
            neuron.keep_days,
            neuron.keep_megabytes,
            neuron.save_images,
            fingerprints=None if gate is None else gate.history,
            clock=self.clock,
        )


async def load_regenerator(settings: ValidatorSettings, device: Device, memory: Memory) -> Regenerator:
    """The models of --neuron.verify_models, on the device, and who is on record for false declarations.

    Raises ProfileUnusable for a model that cannot be used.
    """
    from ig_subnet.mining.errors import MiningError
    from ig_subnet.mining.generators import load_reference

    neuron = settings.neuron
    regenerator = Regenerator(
        device,
        width=neuron.image_width,
        height=neuron.image_height,
        share=neuron.verify_share,
        seconds=neuron.verify_seconds,
        distrusted=await memory.with_store(lambda store: store.false_declarations(DISTRUSTED_ROUNDS)),
    )
    for model in neuron.verify_models:
        try:
            await regenerator.load(partial(load_reference, GeneratorSettings(model=model), neuron))
        except MiningError as error:
            raise ProfileUnusable(f"--neuron.verify_models {model}: {error}") from error
    return regenerator


def own_uid(metagraph: MetagraphSnapshot, hotkey: str, settings: ValidatorSettings) -> int:
    """The validator's uid. Raises NotRegistered, with the command that mends it."""
    neuron = metagraph.by_hotkey(hotkey)
    if neuron is None:
        wallet, network = settings.wallet, settings.subtensor.target
        raise NotRegistered(
            f"hotkey {hotkey} is not registered on subnet {metagraph.netuid} of {network}; register it: "
            f"btcli subnets register --netuid {metagraph.netuid} --network {network} "
            f"--wallet {wallet.name} --wallet-hotkey {wallet.hotkey} --wallet-path {wallet.path}"
        )
    return neuron.uid


async def until_first_ends(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Runs them together until one ends; raises what that one raised, and leaves none running."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


if __name__ == "__main__":
    sys.exit(main())
