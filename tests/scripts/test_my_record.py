"""The program a miner asks a validator with: a real record server, and a real chain that says where it is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import ModuleType

import pytest
from bittensor.keyfiles import Keypair
from recorded_validator import ALICE, BOB, CAROL, VALIDATOR, metagraph, record_rounds
from wire_peers import running

from ig_subnet.chain import AxonServed, create_wallet, load_wallet, open_chain
from ig_subnet.chain.auth import BtAuthVerifier, KeypairSigner
from ig_subnet.localnet import Genesis, LocalNode
from ig_subnet.validating.record_service import RecordService
from ig_subnet.validating.store import STORE_FILE
from protocol import RecordServer

GENESIS = {
    "accounts": {"//Owner": 1000},
    "subnets": [
        {
            "netuid": 1,
            "owner": "//Owner",
            "neurons": [
                {"hotkey": "//Validator", "coldkey": "//Owner", "stake": 1000},
                {"hotkey": "//Alice", "coldkey": "//Owner"},
            ],
        }
    ],
}


@pytest.fixture
def program(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("my_record")


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    for name in ("validator", "alice"):
        create_wallet("owner", name, tmp_path / "wallets", coldkey_uri="//Owner", hotkey_uri=f"//{name.capitalize()}")
    wallet = ["--wallet.path", str(tmp_path / "wallets"), "--wallet.name", "owner", "--wallet.hotkey", "alice"]
    return [*wallet, "--netuid", "1", "--validator", VALIDATOR]


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[RecordServer]:
    record_rounds(folder / STORE_FILE, 9)
    signer = KeypairSigner(Keypair.create_from_uri("//Validator"))
    async with RecordService(folder / STORE_FILE, lambda: metagraph(ALICE, BOB, CAROL)) as service:
        server = RecordServer(
            service, signer, BtAuthVerifier(signer.hotkey), host="127.0.0.1", port=0, policy=service.refuse
        )
        async with running(server):
            yield server


async def test_a_record_by_address(
    program: ModuleType, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(tmp_path) as server:
        address = ["--address", f"127.0.0.1:{server.port}"]
        assert await asyncio.to_thread(program.main, [*flags, *address]) == 0
        printed = capsys.readouterr().out
        assert await asyncio.to_thread(program.main, [*flags, *address, "--rounds", "2", "--json", "-"]) == 0
        content = json.loads(capsys.readouterr().out)
    for text in (f"why {ALICE} has its weight", "moving average", "agrees", "block 1000: set", "--before 2"):
        assert text in printed
    assert "\x1b" not in printed and "DOES NOT AGREE" not in printed
    assert [each["round_id"] for each in content["rounds"]] == [9, 8]
    assert [step["agrees"] for step in content["why"]][1] is True


async def test_a_record_by_the_chain(
    program: ModuleType, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The validator is found where it says on the chain that it listens."""
    async with LocalNode(Genesis.parse(GENESIS), instant_seal=True) as node, serving(tmp_path) as server:
        network = ["--subtensor.network", "local", "--subtensor.chain_endpoint", node.endpoint]
        assert await asyncio.to_thread(program.main, [*flags, *network]) == 1
        assert f"{VALIDATOR} has no address on the chain" in capsys.readouterr().err
        wallet = load_wallet("owner", "validator", tmp_path / "wallets")
        async with open_chain(node.endpoint, 1, wallet) as chain:
            assert isinstance(await chain.serve_axon("127.0.0.1", server.port), AxonServed)
        assert await asyncio.to_thread(program.main, [*flags, *network]) == 0
        assert f"why {ALICE} has its weight" in capsys.readouterr().out
        stranger = [*flags[:-1], Keypair.create_from_uri("//Stranger").ss58_address, *network]
        assert await asyncio.to_thread(program.main, stranger) == 1
        assert "is not registered on subnet 1; check --validator" in capsys.readouterr().err


async def test_another_behind_the_address(
    program: ModuleType, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(tmp_path) as server:
        other = [*flags[:-1], BOB, "--address", f"127.0.0.1:{server.port}"]
        assert await asyncio.to_thread(program.main, other) == 1
    printed = capsys.readouterr()
    assert f"error: no record from {BOB} at 127.0.0.1 port {server.port}: refused: HTTP 401" in printed.err
    assert not printed.out


@contextmanager
def ends_with(code: int) -> Iterator[None]:
    with pytest.raises(SystemExit) as ended:
        yield
    assert ended.value.code == code


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["--address", "validator.example"], "--address: must be IP:PORT"),
        (["--rounds", "33"], "--rounds: must be less than or equal to 32"),
        (["--timeout", "0"], "--timeout: must be greater than 0"),
        (["--validator", "me"], "--validator: must be an ss58 address"),
    ],
)
def test_wrong_usage(
    changes: list[str], said: str, program: ModuleType, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with ends_with(2):
        program.main([*flags, *changes])
    assert said in capsys.readouterr().err


def test_a_wallet_that_is_not_there(program: ModuleType, flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([*flags, "--wallet.hotkey", "nobody", "--address", "127.0.0.1:1"]) == 1
    printed = capsys.readouterr()
    assert "hotkey 'nobody'" in printed.err and printed.err.count("\n") == 1
