"""Records over real HTTP from a real store: each miner its own, at a bounded rate and size, beside the rounds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from bittensor.keyfiles import Keypair
from recorded_validator import ALICE, BOB, CAROL, VALIDATOR, metagraph, record_rounds
from wire_peers import running

from ig_subnet.chain import AxonEndpoint, AxonServed, MetagraphSnapshot, ServeTooEarly, ServeUnreachable
from ig_subnet.chain.auth import BtAuthVerifier, KeypairSigner
from ig_subnet.chain.outcomes import ServeOutcome
from ig_subnet.config.groups import ValidatorAxonSettings
from ig_subnet.validating.errors import StoreMissing
from ig_subnet.validating.record_service import (
    AT_ONCE,
    PUBLISH_SECONDS,
    SECONDS_BETWEEN,
    AddressPublisher,
    RecordService,
)
from ig_subnet.validating.store import STORE_FILE, ScoreStore
from protocol import MinerRecord, QueryStatus, RecordClient, RecordServer, RecordSynapse, Target


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> Path:
    record_rounds(tmp_path / STORE_FILE, 9)
    return tmp_path / STORE_FILE


@asynccontextmanager
async def serving(
    store: Path, snapshot: MetagraphSnapshot, clock: Clock, **options: int
) -> AsyncIterator[RecordServer]:
    signer = KeypairSigner(Keypair.create_from_uri("//Validator"))
    async with RecordService(store, lambda: snapshot, clock=clock, **options) as service:
        server = RecordServer(
            service, signer, BtAuthVerifier(signer.hotkey), host="127.0.0.1", port=0, policy=service.refuse
        )
        async with running(server):
            yield server


@asynccontextmanager
async def miner(name: str) -> AsyncIterator[RecordClient]:
    signer = KeypairSigner(Keypair.create_from_uri(f"//{name}"))
    async with RecordClient(signer, BtAuthVerifier(signer.hotkey), allow_private=True) as client:
        yield client


def at(server: RecordServer) -> Target:
    return Target(VALIDATOR, "127.0.0.1", server.port)


async def test_each_miner_reads_its_own_record_while_rounds_are_written(store: Path) -> None:
    async with serving(store, metagraph(ALICE, BOB, CAROL), Clock()) as server, miner("Alice") as alice:
        async with miner("Bob") as bob:
            first = await alice.query(at(server), RecordSynapse(rounds=4))
            other = await bob.query(at(server), RecordSynapse(rounds=32))
            with ScoreStore.open(store) as writer:
                writer.record_weight_setting(at=9e9, block=2000, outcome="set", detail="later", weights={1: 1.0})
            second = await alice.query(at(server), RecordSynapse(rounds=4, before_round=6))
    assert first.record is not None and other.record is not None and second.record is not None, first.detail
    assert (first.record.hotkey, other.record.hotkey) == (ALICE, BOB)
    assert [each.round_id for each in first.record.rounds] == [9, 8, 7, 6] and first.record.older == 6
    assert [each.round_id for each in other.record.rounds] == [9, 7, 5, 3, 1] and other.record.older is None
    assert [each.round_id for each in second.record.rounds] == [5, 4, 3, 2]
    assert BOB not in first.record.model_dump_json() and ALICE not in other.record.model_dump_json()
    assert second.record.weights[0].detail == "later"


async def test_who_is_not_registered_is_turned_away(store: Path) -> None:
    async with serving(store, metagraph(ALICE, CAROL), Clock()) as server, miner("Bob") as bob:
        result = await bob.query(at(server), RecordSynapse())
    assert (result.status, result.detail) == (QueryStatus.REFUSED, "HTTP 403 not_registered, unsigned")


async def test_a_hotkey_that_asks_too_often_waits(store: Path) -> None:
    clock = Clock()
    async with serving(store, metagraph(ALICE, BOB), clock) as server, miner("Alice") as alice, miner("Bob") as bob:
        for _ in range(AT_ONCE):
            assert (await alice.query(at(server), RecordSynapse(rounds=1))).status is QueryStatus.ANSWERED
        result = await alice.query(at(server), RecordSynapse(rounds=1))
        assert (result.status, result.detail) == (QueryStatus.BUSY, f"busy, ask again in {SECONDS_BETWEEN:.0f} s")
        assert (await bob.query(at(server), RecordSynapse(rounds=1))).status is QueryStatus.ANSWERED
        clock.now += SECONDS_BETWEEN
        assert (await alice.query(at(server), RecordSynapse(rounds=1))).status is QueryStatus.ANSWERED


async def test_a_record_that_is_too_large_holds_fewer_rounds(store: Path) -> None:
    """The newest of them; `older` leads on to what is left out."""
    async with serving(store, metagraph(ALICE), Clock(), max_bytes=5000) as server, miner("Alice") as alice:
        seen: list[int] = []
        before = None
        for _ in range(AT_ONCE):
            result = await alice.query(at(server), RecordSynapse(rounds=9, before_round=before))
            assert isinstance(result.record, MinerRecord)
            seen += [each.round_id for each in result.record.rounds]
            if (before := result.record.older) is None:
                break
    assert seen == list(range(9, 9 - len(seen), -1)) and len(seen) > 2


async def test_a_service_needs_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing, match="has this validator ever started"):
        await RecordService(tmp_path / STORE_FILE, lambda: metagraph()).__aenter__()


# --- the address on the chain ----------------------------------------------------------------------------------------


class MadeUpChain:
    """Says to addresses what it is told to, and then nothing any more."""

    def __init__(self, *outcomes: ServeOutcome) -> None:
        self.outcomes = list(outcomes)
        self.served: list[tuple[str, int]] = []

    async def serve_axon(self, ip: str, port: int) -> ServeOutcome:
        self.served.append((ip, port))
        return self.outcomes.pop(0) if self.outcomes else ServeUnreachable("nobody answers")


def publisher(chain: MadeUpChain, snapshot: MetagraphSnapshot, **settings: object) -> AddressPublisher:
    signer = KeypairSigner(Keypair.create_from_uri("//Validator"))
    server = RecordServer(
        *(lambda synapse, caller: None, signer, BtAuthVerifier(signer.hotkey)),  # type: ignore[arg-type]
        host="127.0.0.1",
        port=8093,
        policy=lambda hotkey: None,
    )
    server.started.set()
    axon = ValidatorAxonSettings.model_validate({"port": 8093, "ip": "127.0.0.1", **settings})
    return AddressPublisher(chain, VALIDATOR, server, axon, lambda: snapshot)  # type: ignore[arg-type]


async def test_the_address_is_published_once_weights_were_set() -> None:
    """Before, other validators would ask it for images."""
    chain = MadeUpChain(AxonServed(1, "1-1"))
    assert await publisher(chain, metagraph(ALICE, validates=False)).step() < PUBLISH_SECONDS
    assert not chain.served
    assert await publisher(chain, metagraph(ALICE)).step() == PUBLISH_SECONDS
    assert chain.served == [("127.0.0.1", 8093)]


async def test_an_address_that_is_there_is_not_published_again() -> None:
    chain = MadeUpChain()
    there = AxonEndpoint("203.0.113.7", 9000)
    elsewhere = {"external_ip": "203.0.113.7", "external_port": 9000}
    await publisher(chain, metagraph(ALICE, axon=there), **elsewhere).step()
    assert not chain.served
    assert await publisher(chain, metagraph(ALICE), **elsewhere).step() == PUBLISH_SECONDS
    assert chain.served == [("203.0.113.7", 9000)]


async def test_a_chain_that_says_no_is_asked_again_later() -> None:
    chain = MadeUpChain(ServeTooEarly(50), AxonServed(60, "60-1"))
    keeper = publisher(chain, metagraph(ALICE))
    assert await keeper.step() == PUBLISH_SECONDS
    assert await keeper.step() == PUBLISH_SECONDS
    assert len(chain.served) == 2
