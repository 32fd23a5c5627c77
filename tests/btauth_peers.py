"""A validator and a miner written from docs/wire.md and the SDK's `http_auth` alone: none of this project's code is in
them, which tests/test_borders.py watches. So what they understand is what the page says.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import io
import json
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from bittensor import http_auth
from bittensor.keyfiles import Keypair

PATH = "/v1/text-to-image"
SECONDS = 20.0


@dataclass(frozen=True)
class Reply:
    """What a miner answered. `signed` is whether its signature holds; `images` are (manifest entry, file) of a 200."""

    status: int
    headers: dict[str, str]
    body: bytes
    signed: bool
    images: list[tuple[dict[str, Any], bytes]]


class Caller:
    """A validator: one HTTP/1.1 connection to one miner."""

    def __init__(self, keypair: Keypair, miner: str, host: str, port: int) -> None:
        self.keypair = keypair
        self.miner = miner
        self.connection = http.client.HTTPConnection(host, port, timeout=SECONDS)

    def ask(self, synapse: dict[str, Any]) -> Reply:
        body = json.dumps(synapse).encode()
        headers = http_auth.sign(self.keypair, method="POST", path=PATH, body=body, receiver_ss58=self.miner)
        self.connection.request(
            "POST", PATH, body, {**headers, "Content-Type": "application/json", "Accept-Encoding": "identity"}
        )
        response = self.connection.getresponse()
        answer = response.read()
        told = {name.lower(): value for name, value in response.getheaders()}
        signature = told.get("x-response-signature", "")
        nonce = int(headers[http_auth.HEADER_NONCE])
        payload = _signed_of_response(nonce, self.keypair.ss58_address, self.miner, response.status, answer)
        signed = bool(signature) and Keypair(ss58_address=self.miner).verify(payload, bytes.fromhex(signature[2:]))
        images = _unframe(answer) if signed and response.status == 200 else []
        return Reply(response.status, told, answer, signed, images)

    def close(self) -> None:
        self.connection.close()


def _signed_of_response(nonce: int, validator: str, miner: str, status: int, body: bytes) -> bytes:
    digest = hashlib.sha256(body).hexdigest()
    return f"text-to-image-response/1\n{nonce}\n{validator}\n{miner}\n{status}\n{digest}".encode()


def _unframe(body: bytes) -> list[tuple[dict[str, Any], bytes]]:
    (length,) = struct.unpack_from(">I", body)
    manifest = json.loads(body[4 : 4 + length])
    files = io.BytesIO(body[4 + length :])
    images = [(entry, files.read(entry["bytes"])) for entry in manifest["images"]]
    assert files.read() == b""
    assert all(hashlib.sha256(data).hexdigest() == entry["sha256"] for entry, data in images)
    return images


def frame(synapse: dict[str, Any], files: list[bytes]) -> bytes:
    """The body of a 200."""
    entries = [
        {
            "format": "png",
            "width": synapse["width"],
            "height": synapse["height"],
            "seed": (synapse["seed"] + number) % 2**32,
            "model": "another language",
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        for number, data in enumerate(files)
    ]
    manifest = json.dumps({"images": entries}, indent=1).encode()
    return struct.pack(">I", len(manifest)) + manifest + b"".join(files)


Answer = Callable[[dict[str, Any]], tuple[int, bytes]]
"""The status and the body for a synapse."""


@asynccontextmanager
async def miner(keypair: Keypair, answer: Answer) -> AsyncIterator[int]:
    """A miner on a free port of 127.0.0.1, which is yielded. It refuses what `http_auth` does not verify."""
    writers = []
    seen = http_auth.InMemoryNonceStore()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            while True:
                writer.write(await _answer(reader, keypair, answer, seen))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()  # the caller has hung up

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await server.wait_closed()
        await asyncio.sleep(0)


async def _answer(
    reader: asyncio.StreamReader, keypair: Keypair, answer: Answer, seen: http_auth.InMemoryNonceStore
) -> bytes:
    """One request, read and answered."""
    line = (await reader.readuntil(b"\r\n")).decode("ascii")
    headers = {}
    while (field := (await reader.readuntil(b"\r\n")).decode("ascii").rstrip("\r\n")) != "":
        name, _, value = field.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers["content-length"]))
    method, target, _ = line.split(" ")
    try:
        caller = http_auth.verify(
            headers,
            body,
            method=method,
            path=target,
            self_hotkey_ss58=keypair.ss58_address,
            nonce_store=seen,
        )
    except http_auth.AuthError:
        return _response(401, b'{"error":"authentication_failed","message":"No."}', [])
    status, made = answer(json.loads(body))
    payload = _signed_of_response(caller.nonce_ns, caller.hotkey_ss58, keypair.ss58_address, status, made)
    return _response(status, made, [f"X-Response-Signature: 0x{keypair.sign(payload).hex()}"])


def _response(status: int, body: bytes, fields: list[str]) -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status} -", f"Content-Length: {len(body)}", *fields])
    return head.encode("ascii") + b"\r\n\r\n" + body
