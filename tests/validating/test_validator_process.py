"""The validator as a process of its own, against a real chain and a real miner: it sets weights, survives the chain's
absence, ends cleanly on a signal and goes on where it was."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import psutil
import pytest
from bittensor.keyfiles import Keypair
from neuron_processes import GENESIS, Store, free_port, neuron, prepare

from ig_subnet.chain import open_chain
from ig_subnet.localnet import Genesis, LocalNode
from ig_subnet.validating.commitments import verify
from ig_subnet.validating.records import VALID


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prepare(tmp_path)
    return tmp_path


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    store = Store(folder)
    yield store
    store.close()


@pytest.mark.timeout(900)  # 25 s on a machine with nothing else to do
async def test_a_validator_sets_weights_outlives_the_chain_and_goes_on_where_it_was(
    project_root: Path, folder: Path, store: Store
) -> None:
    port = free_port()
    chain_flags = ("--subtensor.chain_endpoint", f"ws://127.0.0.1:{port}")
    flags = (
        *chain_flags,
        *("--profile", str(folder / "profile.yaml"), "--neuron.torch_threads", "1", "--neuron.decoder_workers", "1"),
        *("--neuron.round_seconds", "0.1", "--neuron.timeout", "20", "--neuron.save_images", str(folder / "images")),
        *("--neuron.publish_commitments", "--neuron.weight_floor", "0"),  # noise earns next to nothing
    )

    def node() -> LocalNode:
        return LocalNode(Genesis.parse(GENESIS), folder / "chain", port=port, block_time=0.25)

    async with AsyncExitStack() as stack:
        validator = await stack.enter_async_context(neuron(project_root, folder, "first", "validator", *flags))
        await validator.until(lambda: "waiting for the chain" in validator.log.read_text())
        async with node():
            await stack.enter_async_context(
                neuron(
                    *(project_root, folder, "miner", "miner", *chain_flags),
                    *("--axon.port", "0", "--axon.ip", "127.0.0.1", "--miner.model", "noise"),
                )
            )
            await validator.until(lambda: store.settings("set") >= 1 and store.rounds() >= 3)
            await validator.until(lambda: "commitment published" in validator.log.read_text())
            async with open_chain(f"ws://127.0.0.1:{port}", 1, None) as chain:
                assert await chain.weights_on_chain() == {0: {1: 1.0}}
                published = await chain.commitment_of(Keypair.create_from_uri("//Validator").ss58_address)
        # The chain is gone: rounds go on, weights wait.
        before, set_before = store.rounds(), store.settings("set")
        await validator.until(lambda: store.rounds() >= before + 2)
        async with node():
            await validator.until(lambda: store.settings("set") > set_before)
            children = psutil.Process(validator.process.pid).children(recursive=True)
            validator.process.send_signal(signal.SIGTERM)
            assert await validator.ends() == 0, validator.log.read_text()
            assert not any(child.is_running() for child in children)

            before = store.rounds()
            again = await stack.enter_async_context(
                neuron(project_root, folder, "second", "validator", *flags, "--neuron.rounds", "2")
            )
            assert await again.ends() == 0, again.log.read_text()
            assert store.rounds() == before + 2

    found = store.open()
    assert found is not None
    assert [row.round_id for row in found.rounds()] == list(range(1, before + 3))
    commitments = list(found.commitments())
    assert verify(commitments) == [None] * (before + 3)  # one for each round, and the one that comes next
    assert published is not None and published.data.hex() in {commitment.head for commitment in commitments}
    asked = [prompt.prompt_id for prompt in found.prompts()]
    assert len(set(asked)) == min(len(asked), 40), "no prompt comes again while there are others"
    (miner,) = found.miners()
    assert (miner.uid, miner.observations) == (1, before + 2)
    answers = list(found.answers())
    assert {answer.status for answer in answers} == {"answered"}, again.log.read_text()
    assert all(0 < answer.incentive < 1 for answer in answers)
    images = list(found.images())
    assert {image.verdict for image in images} == {VALID}
    # Every image on record was kept; those of a round that a signal broke off may be there too.
    assert {f"{image.sha256}.png" for image in images} <= names_in(folder / "images")
    assert {score.expert for score in found.expert_scores()} == {"pick_score", "clip_aesthetic"}


def names_in(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


async def test_a_signal_while_the_models_load_is_heard(project_root: Path, folder: Path) -> None:
    async with LocalNode(Genesis.parse(GENESIS)) as node:
        flags = ("--subtensor.chain_endpoint", node.endpoint, "--profile", str(folder / "profile.yaml"))
        async with neuron(project_root, folder, "early", "validator", *flags) as validator:
            await validator.until(lambda: "subnet 1 of" in validator.log.read_text())
            validator.process.send_signal(signal.SIGINT)
            validator.process.send_signal(signal.SIGINT)
            assert await validator.ends() == 0
            assert "stopped by a signal" in validator.log.read_text()
            assert "Traceback" not in validator.log.read_text()


async def test_no_weights_follow_from_a_guess_on_a_network_that_is_not_local(project_root: Path, folder: Path) -> None:
    """The experts of the profile are not calibrated; the same node is local by its name only."""
    async with LocalNode(Genesis.parse(GENESIS)) as node:
        profile = ("--profile", str(folder / "profile.yaml"))
        public = ("--subtensor.network", node.endpoint)
        async with neuron(project_root, folder, "guessing", "validator", *public, *profile) as validator:
            assert await validator.ends() == 1
            said = validator.log.read_text().splitlines()[-1]
            assert "nobody has measured the scores of pick_score and clip_aesthetic" in said
            assert f"python scripts/calibrate.py --profile {folder / 'profile.yaml'}" in said
            assert "Traceback" not in validator.log.read_text()
        watching = (*public, *profile, "--neuron.disable_set_weights")
        async with neuron(project_root, folder, "watching", "validator", *watching) as validator:
            await validator.until(lambda: "no miner serves an axon" in validator.log.read_text())
            assert "nobody has measured" in validator.log.read_text()


async def test_what_stops_a_validator_is_said_in_one_line(project_root: Path, folder: Path) -> None:
    stranger = {**GENESIS, "subnets": [{**GENESIS["subnets"][0], "neurons": []}]}  # type: ignore[dict-item]
    async with LocalNode(Genesis.parse(stranger)) as node:
        flags = ("--subtensor.chain_endpoint", node.endpoint)
        async with neuron(project_root, folder, "stranger", "validator", *flags) as validator:
            assert await validator.ends() == 1
            assert "is not registered on subnet 1" in validator.log.read_text()
            assert "Traceback" not in validator.log.read_text()
        async with neuron(
            *(project_root, folder, "keyless", "validator", *flags, "--wallet.hotkey", "nobody")
        ) as validator:
            assert await validator.ends() == 1
            assert "hotkey 'nobody'" in validator.log.read_text()
            assert "Traceback" not in validator.log.read_text()
