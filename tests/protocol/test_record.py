"""A miner asks a validator for its record: real HTTP on loopback both ways, real keys, and what must be refused."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from bittensor import http_auth
from pydantic import ValidationError
from wire_peers import PATIENCE_SECONDS, Keys, Serve, paint, raw_miner, read_request, running, say, verdict

from ig_subnet.chain.auth import BtAuthVerifier
from protocol import (
    Busy,
    Dendrite,
    Limits,
    MinerRecord,
    QueryStatus,
    RecordClient,
    RecordServer,
    RecordSynapse,
    Refusal,
    Target,
    TextToImageSynapse,
)
from protocol.limits import RECORD_LIMITS
from protocol.record import RECORD_PATH, RECORD_TAG
from protocol.signing import HEADER_NONCE, RESPONSE_TAG, parse_signature, response_payload

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "vectors.json").read_text())["records"]


def record_of(hotkey: str) -> MinerRecord:
    """A record with one of everything."""
    expert = {"score": 0.5, "worst": -0.25, "truncated": False}
    image = {
        **{"number": 0, "sha256": "ab" * 32, "format": "png", "width": 64, "height": 64, "bytes": 1234},
        **{"model": "pocket steps:20", "verdict": "seen before", "evidence": '{"round_id": 3}', "total": 0.5},
        **{"incentive": 0.0, "disagreement": 0.125, "trust": 1.0, "alignment": None, "unsafe": 0.0},
        "experts": {"pick_score": expert},
    }
    answer = {
        **{"position": 0, "topic": "colours", "prompt": "ein röter Kreis 🔴", "prompt_id": None, "source": "pocket"},
        **{"status": "answered", "elapsed_seconds": 0.5, "seed": 7, "incentive": 0.0, "detail": "", "images": [image]},
    }
    asked = {
        **{"round_id": 4, "started_at": 1.5, "finished_at": 2.5, "block": 100, "observation": 0.0, "average": 0.25},
        "answers": [answer],
    }
    standing = {
        **{"uid": 3, "registered_at": 9, "observations": 2, "last_round": 4, "observed_at": 2.5, "absent_since": None},
        **{"accumulator": 0.25, "accumulated_weight": 1.0, "squares": 0.125, "average": 0.25},
    }
    weight = {
        **{"at": 3.0, "block": 101, "outcome": "set", "detail": "", "uid": 3, "share": 1.0, "average": 0.25},
        **{
            "limited": 0.25,
            "highest": 0.25,
            "highest_share": 1.0,
            "weighed": 2,
            "paid": 1,
            "alpha": 0.1,
            "shaping": {"kind": "power"},
        },
    }
    told = {"hotkey": hotkey, "at": 4.0, "standing": standing, "rounds": [asked], "older": 4, "weights": [weight]}
    return MinerRecord.model_validate_json(json.dumps(told))


async def tell(synapse: RecordSynapse, caller: str) -> MinerRecord:
    return record_of(caller)


@asynccontextmanager
async def serving(keys: Keys, handler: Any = tell, **options: Any) -> AsyncIterator[RecordServer]:
    """A running record server of the validator."""
    options = {"host": "127.0.0.1", "port": 0, "policy": lambda hotkey: None, **options}
    server = RecordServer(handler, keys.validator, BtAuthVerifier(keys.validator.hotkey), **options)
    async with running(server):
        yield server


@pytest.fixture
async def client(keys: Keys) -> AsyncIterator[RecordClient]:
    async with RecordClient(keys.miner, BtAuthVerifier(keys.miner.hotkey), allow_private=True) as client:
        yield client


@pytest.fixture
def at(keys: Keys) -> Callable[[int], Target]:
    """The validator at a loopback port."""
    return lambda port: Target(keys.validator.hotkey, "127.0.0.1", port)


Where = Callable[[int], Target]


async def test_a_record_is_told_and_verified(keys: Keys, client: RecordClient, at: Where) -> None:
    asked: list[tuple[RecordSynapse, str]] = []

    async def handler(synapse: RecordSynapse, caller: str) -> MinerRecord:
        asked.append((synapse, caller))
        return record_of(caller)

    synapse = RecordSynapse(rounds=3, before_round=9, deadline_seconds=15)
    async with serving(keys, handler) as server:
        result = await client.query(at(server.port), synapse)
    assert (result.status, result.detail) == (QueryStatus.ANSWERED, "")
    assert result.record == record_of(keys.miner.hotkey)
    assert asked == [(synapse, keys.miner.hotkey)]


async def test_two_miners_at_once_get_each_their_own(keys: Keys, client: RecordClient, at: Where) -> None:
    stranger = RecordClient(keys.stranger, BtAuthVerifier(keys.stranger.hotkey), allow_private=True)
    async with serving(keys) as server, stranger:
        results = await asyncio.gather(*(who.query(at(server.port), RecordSynapse()) for who in (client, stranger)))
    told = [result.record.hotkey for result in results if result.record is not None]
    assert told == [keys.miner.hotkey, keys.stranger.hotkey]


async def test_what_a_validator_may_say_instead(keys: Keys, client: RecordClient, at: Where) -> None:
    async def busy(synapse: RecordSynapse, caller: str) -> MinerRecord:
        raise Busy(29.5)

    async def broken(synapse: RecordSynapse, caller: str) -> MinerRecord:
        raise OSError("the disk is gone: /var/lib/secret")

    async with serving(keys, busy) as server:
        result = await client.query(at(server.port), RecordSynapse())
    assert (result.status, result.detail) == (QueryStatus.BUSY, "busy, ask again in 30 s")
    async with serving(keys, broken) as server:
        result = await client.query(at(server.port), RecordSynapse())
    assert (result.status, result.detail) == (QueryStatus.FAILED, "HTTP 500 internal_error")
    async with serving(keys, policy=lambda hotkey: Refusal.NOT_REGISTERED) as server:
        result = await client.query(at(server.port), RecordSynapse())
    assert (result.status, result.detail) == (QueryStatus.REFUSED, "HTTP 403 not_registered, unsigned")
    async with serving(keys, limits=Limits(max_record_bytes=500)) as server:
        result = await client.query(at(server.port), RecordSynapse())
    assert (result.status, result.detail) == (QueryStatus.FAILED, "HTTP 500 internal_error")


async def test_one_of_a_hotkey_at_a_time(keys: Keys, client: RecordClient, at: Where) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def slow(synapse: RecordSynapse, caller: str) -> MinerRecord:
        entered.set()
        await go_on.wait()
        return record_of(caller)

    async with serving(keys, slow) as server:
        first = asyncio.create_task(client.query(at(server.port), RecordSynapse()))
        await entered.wait()
        assert (await client.query(at(server.port), RecordSynapse())).status is QueryStatus.BUSY
        go_on.set()
        assert (await first).status is QueryStatus.ANSWERED


async def test_a_deadline(keys: Keys, client: RecordClient, at: Where) -> None:
    async def stuck(synapse: RecordSynapse, caller: str) -> MinerRecord:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async with serving(keys, stuck) as server:
        result = await client.query(at(server.port), RecordSynapse(deadline_seconds=0.5))
    assert result.status in (QueryStatus.TIMEOUT, QueryStatus.FAILED)  # whichever side notices first
    assert result.record is None


# --- hostile callers -------------------------------------------------------------------------------------------------


class Caller:
    """Signs honestly, and speaks bytes."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys

    def request(self) -> bytes:
        body = b'{"rounds":2}'
        headers = {
            **{"Host": "validator", "Connection": "close", "Content-Type": "application/json"},
            "Content-Length": str(len(body)),
            **self.keys.miner.sign_request(
                method="POST", path=RECORD_PATH, body=body, receiver=self.keys.validator.hotkey
            ),
        }
        lines = "\r\n".join([f"POST {RECORD_PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())])
        return lines.encode() + b"\r\n\r\n" + body


async def test_a_validator_with_records_makes_no_images_and_a_miner_tells_no_records(
    keys: Keys, serve: Serve, dendrite: Dendrite, synapse: TextToImageSynapse
) -> None:
    """Each serves one path; whoever is asked for the other says that there is none."""
    stranger = RecordClient(keys.stranger, BtAuthVerifier(keys.stranger.hotkey), allow_private=True)
    async with serve(paint) as axon, stranger:
        result = await stranger.query(Target(keys.miner.hotkey, "127.0.0.1", axon.port), RecordSynapse())
    assert (result.status, result.detail) == (QueryStatus.REFUSED, "HTTP 404 not_found, unsigned")
    async with serving(keys) as server:
        asked = await dendrite.query(Target(keys.validator.hotkey, "127.0.0.1", server.port), synapse)
    assert (asked.status, asked.detail) == (QueryStatus.REFUSED, "HTTP 404 not_found, unsigned")


async def test_connections_are_capped(keys: Keys, client: RecordClient, at: Where) -> None:
    most = RECORD_LIMITS.max_connections_per_address
    async with serving(keys) as server:
        crowd = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(most)]
        result = await client.query(at(server.port), RecordSynapse())
        for _, writer in crowd:
            writer.transport.abort()
    assert result.status is QueryStatus.UNREACHABLE


async def test_requests_from_one_address_are_bounded(keys: Keys, client: RecordClient, at: Where) -> None:
    """Whoever sends them, and however; other addresses are not concerned."""
    limits = Limits(address_seconds=3600, address_at_once=3)
    async with serving(keys, limits=limits) as server:
        for _ in range(2):
            assert (await client.query(at(server.port), RecordSynapse())).status is QueryStatus.ANSWERED
        assert verdict(await say(server.port, b"GET / HTTP/1.1\r\nHost: v\r\n\r\n")) == (404, "not_found", False)
        result = await client.query(at(server.port), RecordSynapse())
        assert (result.status, result.detail) == (QueryStatus.REFUSED, "HTTP 429 too_many_requests, unsigned")
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, local_addr=("127.0.0.2", 0))
        writer.write(Caller(keys).request())
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert verdict(await reader.read()) == (200, "", True)
        writer.transport.abort()


# --- hostile validators ----------------------------------------------------------------------------------------------


class Validator:
    """One connection's honest answer, of which a test can then change one thing."""

    def __init__(self, keys: Keys, headers: dict[str, str]) -> None:
        self.keys = keys
        self.nonce = int(headers[HEADER_NONCE.lower()])
        self.body = record_of(keys.miner.hotkey).model_dump_json().encode()

    def answer(self, body: bytes | None = None, *, signer: str = "validator", status: int = 200, **named: Any) -> bytes:
        body = self.body if body is None else body
        parts = {
            **{"tag": RECORD_TAG, "nonce": self.nonce, "validator": self.keys.validator.hotkey},
            **{"miner": self.keys.miner.hotkey, "status": status, "body_sha256": hashlib.sha256(body).hexdigest()},
        }
        signature = getattr(self.keys, signer).sign(response_payload(**(parts | named))).hex()
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nX-Response-Signature: 0x{signature}\r\n\r\n"
        return head.encode() + body


Say = Callable[[Validator], bytes]
ANSWERS: dict[str, tuple[Say, QueryStatus]] = {
    "honest": (lambda v: v.answer(), QueryStatus.ANSWERED),
    "another key": (lambda v: v.answer(signer="stranger"), QueryStatus.BAD_SIGNATURE),
    "the miner's own key": (lambda v: v.answer(signer="miner"), QueryStatus.BAD_SIGNATURE),
    "signed as images": (lambda v: v.answer(tag=RESPONSE_TAG), QueryStatus.BAD_SIGNATURE),
    "for another request": (lambda v: v.answer(nonce=v.nonce + 1), QueryStatus.BAD_SIGNATURE),
    "for another miner": (lambda v: v.answer(miner=v.keys.stranger.hotkey), QueryStatus.BAD_SIGNATURE),
    "the two in each other's place": (
        lambda v: v.answer(validator=v.keys.miner.hotkey, miner=v.keys.validator.hotkey),
        QueryStatus.BAD_SIGNATURE,
    ),
    "another body": (lambda v: v.answer(body_sha256="00" * 32), QueryStatus.BAD_SIGNATURE),
    "another miner's record": (
        lambda v: v.answer(v.body.replace(v.keys.miner.hotkey.encode(), v.keys.stranger.hotkey.encode())),
        QueryStatus.BAD_RESPONSE,
    ),
    "a repeated key": (lambda v: v.answer(v.body.replace(b"{", b'{"at":9.0,', 1)), QueryStatus.BAD_RESPONSE),
    "an unknown field": (lambda v: v.answer(v.body.replace(b"{", b'{"n":9.0,', 1)), QueryStatus.BAD_RESPONSE),
    "an incentive above 1": (
        lambda v: v.answer(v.body.replace(b'"share":1.0', b'"share":1.5')),
        QueryStatus.BAD_RESPONSE,
    ),
    "not a number": (lambda v: v.answer(v.body.replace(b'"at":4.0', b'"at":NaN')), QueryStatus.BAD_RESPONSE),
    "an escape sequence": (
        lambda v: v.answer(v.body.replace(b"colours", rb"\u001b[2J")),
        QueryStatus.BAD_RESPONSE,
    ),
    "not JSON": (lambda v: v.answer(b"trust me"), QueryStatus.BAD_RESPONSE),
    "deep nesting": (lambda v: v.answer(b"[" * 100_000), QueryStatus.BAD_RESPONSE),
    "2 MiB and a byte": (lambda v: v.answer(b" " * (2**21 + 1)), QueryStatus.TOO_LARGE),
    "a redirect": (lambda v: v.answer(b"", status=302), QueryStatus.BAD_RESPONSE),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_hostile_answers(name: str, keys: Keys, client: RecordClient, at: Where) -> None:
    talk, expected = ANSWERS[name]

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        headers, _ = await read_request(reader)
        writer.write(talk(Validator(keys, headers)))
        await writer.drain()

    async with raw_miner(script) as port:
        result = await client.query(at(port), RecordSynapse())
    assert result.status is expected, result.detail
    assert (result.record is None) == (expected is not QueryStatus.ANSWERED)
    assert "\x1b" not in result.detail


# --- types and bytes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vectors(vector: dict[str, Any]) -> None:
    """The bytes of a request and its answer, and signatures made once by the named development keys."""
    request, response = vector["request"], vector["response"]
    body = RecordSynapse(rounds=4, deadline_seconds=12.0).model_dump_json()
    assert body == request["body"]
    payload = http_auth.build_payload(
        scheme="sr25519",
        method="POST",
        path=RECORD_PATH,
        body=body.encode(),
        nonce_ns=vector["nonce"],
        sender_ss58=vector["miner"],
        receiver_ss58=vector["validator"],
    )
    assert payload.decode() == request["payload"]
    verifier = BtAuthVerifier(vector["miner"])
    assert verifier.verify(vector["miner"], payload, parse_signature(request["signature"]) or b"")
    record = MinerRecord.model_validate_json(response["body"])
    assert (record.hotkey, record.rounds) == (vector["miner"], ())
    signed = response_payload(
        tag=RECORD_TAG,
        nonce=vector["nonce"],
        validator=vector["validator"],
        miner=vector["miner"],
        status=200,
        body_sha256=hashlib.sha256(response["body"].encode()).hexdigest(),
    )
    assert signed.decode() == response["payload"]
    assert verifier.verify(vector["validator"], signed, parse_signature(response["signature"]) or b"")


def test_a_record_survives_its_json(keys: Keys) -> None:
    record = record_of(keys.miner.hotkey)
    assert MinerRecord.model_validate_json(record.model_dump_json()) == record
    with pytest.raises(ValidationError, match="frozen"):
        record.at = 5.0  # type: ignore[misc]
