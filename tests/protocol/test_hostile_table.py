"""tests/protocol/hostile.json against the real servers and the real client: bytes in, verdict out."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bittensor.keyfiles import Keypair
from wire_peers import paint, raw_miner, read_request, running, say

from ig_subnet.chain.auth import BtAuthVerifier, KeypairSigner
from ig_subnet.chain.nonces import NonceStore
from protocol import (
    Axon,
    Dendrite,
    Limits,
    MinerRecord,
    RecordServer,
    RecordSynapse,
    Refusal,
    Target,
    TextToImageSynapse,
)
from protocol.record import RECORD_TAG
from protocol.signing import RESPONSE_TAG, parse_signature, response_payload

TABLE: dict[str, Any] = json.loads((Path(__file__).parent / "hostile.json").read_text(encoding="utf-8"))
CLOCK_NS: int = TABLE["clock_ns"]
# The table's verdicts are about one request at a time, whoever sent how many before.
LIMITS = Limits(address_seconds=0, caller_seconds=0)


def signer_of(uri: str) -> KeypairSigner:
    return KeypairSigner(Keypair.create_from_uri(uri), clock_ns=lambda: CLOCK_NS)


def verifier_of(hotkey: str) -> BtAuthVerifier:
    store = NonceStore(clock_ns=lambda: TABLE["started_ns"])
    return BtAuthVerifier(hotkey, nonces=store, clock_ns=lambda: CLOCK_NS)


def policy_of(table: dict[str, Any]) -> Callable[[str], Refusal | None]:
    refused = {TABLE["keys"][uri]["hotkey"]: Refusal(code) for uri, code in table["refused"].items()}
    return refused.get


def sent(pieces: list[str | dict[str, Any]]) -> bytes:
    texts = [piece if isinstance(piece, str) else piece["repeat"] * piece["times"] for piece in pieces]
    return "".join(texts).encode("latin-1")


def verdict(answer: bytes, asked: bytes, tag: str, validator: str, miner: str) -> dict[str, Any] | str:
    """What the table says of an answer; a signature counts if it is the receiver's over this very answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status = re.match(rb"HTTP/1\.1 (\d{3}) ", head)
    if status is None:
        return f"no answer but {answer[:200]!r}"
    signature = re.search(rb"(?i)^x-response-signature: (\S+)\r?$", head + b"\r\n", re.MULTILINE)
    if signature is not None:
        nonce = re.search(rb"(?i)x-bittensor-nonce: (\d+)\r\n", asked)
        assert nonce is not None
        digest, number = hashlib.sha256(body).hexdigest(), int(status[1])
        payload = response_payload(
            tag=tag, nonce=int(nonce[1]), validator=validator, miner=miner, status=number, body_sha256=digest
        )
        own = miner if tag == RESPONSE_TAG else validator
        parsed = parse_signature(signature[1].decode())
        if parsed is None or not verifier_of(own).verify(own, payload, parsed):
            return "the signature is not that of the receiver over this answer"
    error = None if status[1] == b"200" else json.loads(body)["error"]
    return {"status": int(status[1]), "error": error, "signed": signature is not None}


async def disagreements(table: dict[str, Any], port: int, tag: str, validator: str, miner: str) -> dict[str, Any]:
    """The cases in which a server decides otherwise, with what it decided."""
    found = {}
    for case in table["cases"]:
        for number, exchange in enumerate(case["exchanges"]):
            data = sent(exchange["send"])
            answer = await say(port, data)
            if (got := verdict(answer, data, tag, validator, miner)) != exchange["verdict"]:
                found[f"{case['name']} ({number})"] = got
            for inside in (b"Traceback", b"uvicorn", b"server:", b"python", b"pydantic"):
                assert inside.lower() not in answer.lower(), case["name"]
    return found


async def test_requests_for_images() -> None:
    table = TABLE["requests"]
    validator, miner = signer_of("//Alice"), signer_of(table["receiver"])
    axon = Axon(
        *(paint, miner, verifier_of(miner.hotkey)),
        **{"host": "127.0.0.1", "port": 0, "policy": policy_of(table), "limits": LIMITS},
    )
    async with running(axon):
        assert await disagreements(table, axon.port, RESPONSE_TAG, validator.hotkey, miner.hotkey) == {}


async def test_requests_for_records() -> None:
    async def tell(synapse: RecordSynapse, caller: str) -> MinerRecord:
        return MinerRecord(hotkey=caller, at=0.0, standing=None, rounds=(), older=None, weights=())

    table = TABLE["records"]
    validator, miner = signer_of(table["receiver"]), signer_of("//Bob")
    server = RecordServer(
        *(tell, validator, verifier_of(validator.hotkey)),
        **{"host": "127.0.0.1", "port": 0, "policy": policy_of(table)},
        limits=Limits(max_request_bytes=1024, address_seconds=0, caller_seconds=0),
    )
    async with running(server):
        assert await disagreements(table, server.port, RECORD_TAG, validator.hotkey, miner.hotkey) == {}


async def test_responses() -> None:
    table = TABLE["responses"]
    miner = signer_of(table["miner"])
    synapse = TextToImageSynapse(**table["synapse"])
    saying = b""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        headers, _ = await read_request(reader)
        assert headers["x-bittensor-nonce"] == str(table["nonce"])
        writer.write(saying)
        await writer.drain()

    found = {}
    async with raw_miner(script) as port:
        for case in table["cases"]:
            saying = sent(case["send"])
            validator = signer_of(table["validator"])  # a new one each time: its first nonce is the clock
            async with Dendrite(validator, verifier_of(validator.hotkey), allow_private=True) as dendrite:
                result = await dendrite.query(Target(miner.hotkey, "127.0.0.1", port), synapse)
            if result.status != case["result"]:
                found[case["name"]] = f"{result.status}: {result.detail}"
            if result.images:
                images = [sent(pieces) for pieces in table["images"]]
                assert [image.data for image in result.images] == images[: len(result.images)], case["name"]
    assert found == {}


@pytest.mark.parametrize("kind", ["requests", "records", "responses"])
def test_names_are_unique_and_signatures_are_as_told(kind: str) -> None:
    cases = TABLE[kind]["cases"]
    assert len({case["name"] for case in cases}) == len(cases)
    for entry in (entry for case in cases for entry in case["signed"]):
        key = Keypair.create_from_uri(entry["by"])
        assert key.verify(entry["payload"].encode(), bytes.fromhex(entry["signature"][2:]))
