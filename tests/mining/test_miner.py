"""neurons/miner.py: as a process on a local chain, and how it follows the chain."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from unittest.mock import AsyncMock

import pytest
from wire_peers import say

from ig_subnet.chain import (
    AxonEndpoint,
    AxonServed,
    AxonUnchanged,
    ChainUnavailable,
    MetagraphSnapshot,
    NeuronSnapshot,
    Presence,
    ServeNotPermitted,
    ServeOutcome,
    ServeRejected,
    ServeTooEarly,
    ServeUnreachable,
    create_wallet,
    load_wallet,
    open_chain,
)
from ig_subnet.chain.auth import BtAuthVerifier, KeypairSigner
from ig_subnet.chain.presence import MISSING_SECONDS
from ig_subnet.config.settings import parse_miner_settings
from ig_subnet.localnet import Genesis, LocalNode
from ig_subnet.mining.admission import Admission
from ig_subnet.mining.errors import NotPublished, NotRegistered
from neurons import miner as program
from protocol import Dendrite, QueryStatus, Target, TextToImageSynapse
from protocol.synapse import QUERY_PATH

PATIENCE_SECONDS = 60.0
NEURONS = [
    {"hotkey": "//Validator", "coldkey": "//Alice", "stake": 1000},
    {"hotkey": "//Miner", "coldkey": "//Bob"},
]
GENESIS = Genesis.parse({"subnets": [{"netuid": 1, "neurons": NEURONS}]})
SYNAPSE = TextToImageSynapse(
    prompt="a red circle left of a blue square", width=64, height=64, num_images=2, seed=7, deadline_seconds=30
)


# --- the process


def local_node() -> LocalNode:
    return LocalNode(GENESIS, instant_seal=True)


@dataclass
class Miner:
    """A running miner and what it has said so far."""

    process: asyncio.subprocess.Process
    log: list[str] = field(default_factory=list)

    async def says(self, words: str) -> None:
        """Returns once a line of the log has these words."""
        while not any(words in line for line in self.log):
            assert self.process.stderr is not None
            line = (await self.process.stderr.readline()).decode()
            assert line, f"it ended without saying {words!r}: {''.join(self.log)}"
            self.log.append(line)

    async def end(self, number: signal.Signals | None = None) -> int:
        """The exit status, after this signal if one is given; the log is complete then."""
        if number is not None:
            self.process.send_signal(number)
        _, rest = await self.process.communicate()
        self.log += rest.decode().splitlines(keepends=True)
        assert self.process.returncode is not None
        assert "Traceback" not in "".join(self.log)
        return self.process.returncode


StartMiner = Callable[..., AbstractAsyncContextManager[Miner]]


@pytest.fixture
def wallets(tmp_path: Path) -> Path:
    for name in ("validator", "miner", "stranger"):
        create_wallet(name, "default", tmp_path / "wallets", hotkey_uri=f"//{name.capitalize()}")
    return tmp_path / "wallets"


@pytest.fixture
def start_miner(wallets: Path, project_root: Path) -> StartMiner:
    @asynccontextmanager
    async def start(endpoint: str, *flags: str, wallet: str = "miner") -> AsyncIterator[Miner]:
        arguments: Sequence[str] = [
            *("--netuid", "1", "--subtensor.network", "local", "--subtensor.chain_endpoint", endpoint),
            *("--wallet.name", wallet, "--wallet.path", str(wallets), "--neuron.resync_seconds", "0.2"),
            *("--miner.model", "noise", "--axon.ip", "127.0.0.1", "--axon.port", "0", *flags),
        ]
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(project_root / "neurons" / "miner.py"), *arguments, stderr=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                yield Miner(process)
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()

    return start


async def test_it_serves_publishes_and_answers_until_it_is_told_to_stop(start_miner: StartMiner, wallets: Path) -> None:
    validator = load_wallet("validator", "default", wallets)
    dendrite = Dendrite(KeypairSigner(validator.hotkey), BtAuthVerifier(validator.hotkey_address), allow_private=True)
    async with dendrite, AsyncExitStack() as chain_is_up:
        node = await chain_is_up.enter_async_context(local_node())
        async with start_miner(node.endpoint) as miner:
            await miner.says("axon published in block")
            async with open_chain(node.endpoint, 1, None) as chain:
                neuron = (await chain.metagraph()).neurons[1]
            assert neuron.axon is not None
            target = Target(neuron.hotkey, neuron.axon.ip, neuron.axon.port)
            result = await dendrite.query(target, SYNAPSE)
            assert result.status is QueryStatus.ANSWERED, result.detail
            assert [(image.seed, image.model) for image in result.images] == [(7, "noise"), (8, "noise")]

            stranger = load_wallet("stranger", "default", wallets)
            async with Dendrite(
                KeypairSigner(stranger.hotkey), BtAuthVerifier(stranger.hotkey_address), allow_private=True
            ) as other:
                assert (await other.query(target, SYNAPSE)).status is QueryStatus.REFUSED

            await chain_is_up.aclose()
            await miner.says("going on with the metagraph of before")
            assert (await dendrite.query(target, SYNAPSE)).status is QueryStatus.ANSWERED, (
                "the chain is not needed for it"
            )

            assert await miner.end(signal.SIGTERM) == 0
            assert miner.log[-1].endswith("stopped by a signal\n")
            answered = [line for line in miner.log if "answered" in line]
            assert len(answered) == 2
            assert all(validator.hotkey_address in line and SYNAPSE.prompt in line for line in answered)


async def test_interrupted_while_it_waits_for_the_chain_it_ends_with_status_0(start_miner: StartMiner) -> None:
    async with start_miner("ws://127.0.0.1:1") as miner:
        await miner.says("trying again in 5 s")
        assert await miner.end(signal.SIGINT) == 0


async def test_a_readable_coldkey_is_warned_of_on_a_network_of_others(start_miner: StartMiner, wallets: Path) -> None:
    async with start_miner("ws://127.0.0.1:1", "--subtensor.network=test", "--axon.external_ip=8.8.8.8") as miner:
        await miner.says("trying again in 5 s")
        assert await miner.end(signal.SIGINT) == 0
    assert f"{wallets}/miner/coldkey can be read by this process" in "".join(miner.log)


async def test_processes_of_one_hotkey_share_what_they_accepted(start_miner: StartMiner, wallets: Path) -> None:
    """Of the same signed bytes sent to both at once, one answers and the other refuses; each restart remembers."""
    validator, own = (load_wallet(name, "default", wallets) for name in ("validator", "miner"))
    store, body = wallets / "nonces.sqlite3", SYNAPSE.model_dump_json().encode()

    def request() -> bytes:
        signed = KeypairSigner(validator.hotkey).sign_request(
            method="POST", path=QUERY_PATH, body=body, receiver=own.hotkey_address
        )
        headers = {"Host": "m", "Connection": "close", "Content-Type": "application/json", **signed}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST {QUERY_PATH} HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body

    async def status(miner: Miner, said: bytes) -> bytes:
        port = int(re.findall(r"listens on 127.0.0.1 port (\d+)", "".join(miner.log))[0])
        return (await say(port, said))[9:12]

    shared = ("--axon.nonce_store", str(store), "--axon.external_port", "8091")
    async with local_node() as node, start_miner(node.endpoint, *shared) as one:
        async with start_miner(node.endpoint, *shared) as other:
            for miner in (one, other):
                await miner.says("listens on")
            for _ in range(5):
                said = request()
                assert sorted(await asyncio.gather(status(one, said), status(other, said))) == [b"200", b"401"]
            last = request()
            assert await status(other, last) == b"200"
            assert await other.end(signal.SIGTERM) == 0
        async with start_miner(node.endpoint, *shared) as again:
            await again.says("listens on")
            assert [await status(again, last), await status(one, last)] == [b"401", b"401"]
            assert await status(again, request()) == b"200"


async def test_stopped_while_it_loads_a_model_it_ends_with_status_0(
    start_miner: StartMiner, tiny_pipeline: Path
) -> None:
    async with local_node() as node, start_miner(node.endpoint, "--miner.model", str(tiny_pipeline)) as miner:
        await miner.says("on subnet 1 of")
        assert await miner.end(signal.SIGTERM) == 0


@pytest.mark.parametrize(
    ("wallet", "flags", "said"),
    [
        ("stranger", (), "is not registered on subnet 1 of ws://127.0.0.1:"),
        ("nobody", (), "btcli wallet new-coldkey --wallet nobody"),
        ("miner", ("--netuid", "9"), "subnet 9 does not run"),
        ("miner", ("--miner.model", "no-such-model"), "the model no-such-model is none of"),
        ("miner", ("--axon.nonce_store", "/no/such/folder/file"), "nonce store /no/such/folder/file cannot be used"),
        ("miner", ("--axon.port", "{taken}"), "cannot listen on 127.0.0.1 port {taken}"),
    ],
)
async def test_what_keeps_it_from_serving_is_one_line_and_status_1(
    wallet: str, flags: tuple[str, ...], said: str, start_miner: StartMiner
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = str(listener.getsockname()[1])
        chosen = [flag.format(taken=taken) for flag in flags]
        async with local_node() as node, start_miner(node.endpoint, *chosen, wallet=wallet) as miner:
            assert await miner.end() == 1
    errors = [line for line in miner.log if "ERROR" in line]
    assert len(errors) == 1
    assert said.format(taken=taken) in errors[0]


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ("local", "register it: `ig_subnet.chain.register`, as docs/running.md shows"),
        ("test", "register it: btcli subnets register --netuid 1 --network test --wallet w --wallet-hotkey h"),
    ],
)
def test_a_hotkey_that_is_not_registered_is_told_how(network: str, said: str) -> None:
    settings = parse_miner_settings(
        [*("--subtensor.network", network, "--wallet.name", "w", "--wallet.hotkey", "h"), "--axon.external_ip=8.8.8.8"]
    )
    with pytest.raises(NotRegistered, match=re.escape(said)):
        program.own_neuron(REGISTERED, "stranger", settings)


# --- following the chain

HOTKEY, ENDPOINT = "miner", AxonEndpoint("127.0.0.1", 8091)
OWN = NeuronSnapshot(
    uid=0,
    hotkey=HOTKEY,
    coldkey="coldkey",
    stake=0.0,
    validator_permit=False,
    active=True,
    last_update=0,
    registered_at=0,
    axon=None,
    incentive=0.0,
    dividends=0.0,
    emission=0.0,
    consensus=0.0,
    trust=0.0,
    validator_trust=0.0,
)
REGISTERED = MetagraphSnapshot(netuid=1, block=1, neurons=(OWN,))
PUBLISHED = MetagraphSnapshot(netuid=1, block=2, neurons=(replace(OWN, axon=ENDPOINT),))
GONE = MetagraphSnapshot(netuid=1, block=3, neurons=(replace(OWN, hotkey="successor"),))
AWAY = ChainUnavailable("ws://nowhere", "connection refused")


async def follow(chain: AsyncMock) -> None:
    """With a clock that every look at it moves by a quarter of the time for which the hotkey may be missing."""
    settings = parse_miner_settings(["--subtensor.network", "local", "--neuron.resync_seconds", "0.1"])
    presence = Presence(HOTKEY, clock=count(step=MISSING_SECONDS / 4).__next__)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await program.follow_chain(chain, Admission(settings.blacklist), presence, ENDPOINT, settings)


async def test_the_axon_is_published_until_the_chain_shows_it_and_again_when_it_changes() -> None:
    chain = AsyncMock()
    looks = [REGISTERED, AWAY, REGISTERED, PUBLISHED, PUBLISHED, REGISTERED]
    chain.metagraph.side_effect = [*looks, GONE, GONE, GONE, GONE, GONE]
    chain.serve_axon.side_effect = [ServeTooEarly(3), ServeUnreachable("no answer"), AxonServed(9, "9-1")]
    with pytest.raises(NotRegistered, match="not registered on subnet 1"):
        await follow(chain)
    assert chain.metagraph.await_count > len(looks) + 1, "one look at a node that errs does not end a miner"
    assert [call.args for call in chain.serve_axon.await_args_list] == [("127.0.0.1", 8091)] * 3


@pytest.mark.parametrize(
    "outcome", [ServeNotPermitted("not registered"), ServeRejected("InvalidIpAddress", "loopback")]
)
async def test_an_axon_that_the_chain_refuses_for_good_ends_the_miner(outcome: ServeOutcome) -> None:
    chain = AsyncMock()
    chain.serve_axon.return_value = outcome
    with pytest.raises(NotPublished, match="cannot find this miner"):
        await program.publish(chain, ENDPOINT)


async def test_an_axon_that_is_already_published_is_fine() -> None:
    chain = AsyncMock()
    chain.serve_axon.return_value = AxonUnchanged()
    await program.publish(chain, ENDPOINT)
    chain.serve_axon.assert_awaited_once()
