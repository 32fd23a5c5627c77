"""Responses to one query, honest and hostile, and how the query must end."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from wire_vectors.signatures import Signatures, hotkey, pieces, sha256

IMAGES = (b"pixels", b"and others")


@dataclass
class Responses:
    """A table of what a miner may send back to a validator's query with this nonce."""

    signatures: Signatures
    validator: str
    miner: str
    nonce: int
    synapse: dict[str, Any]
    cases: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, result: str, data: bytes) -> None:
        """One response, after which the miner closes the connection."""
        signed = list(self.signatures.made)
        self.signatures.made.clear()
        self.cases.append({"name": name, "signed": signed, "send": pieces(data), "result": result})

    def manifest(self, **changed: Any) -> dict[str, Any]:
        """What is said of both images, the first with other values."""
        entries = [
            {
                **{"format": "png", "width": self.synapse["width"], "height": self.synapse["height"]},
                **{"seed": self.synapse["seed"] + number, "model": "test/model", "bytes": len(data)},
                "sha256": sha256(data),
            }
            for number, data in enumerate(IMAGES)
        ]
        entries[0] |= changed
        return {"images": entries}

    def body(self, manifest: object = None, *, images: bytes = b"".join(IMAGES), length: int | None = None) -> bytes:
        """A body of a 200; `manifest` may be JSON as text."""
        manifest = self.manifest() if manifest is None else manifest
        text = manifest if isinstance(manifest, bytes) else json.dumps(manifest, separators=(",", ":")).encode()
        return (len(text) if length is None else length).to_bytes(4, "big") + text + images

    def response(
        self,
        body: bytes | None = None,
        *,
        status: int = 200,
        signed_by: str | None = None,
        signed: dict[str, str] | None = None,
        wrapped: bool = False,
        signature: str | None = None,
        replace: dict[str, str | None] | None = None,
        extra: str = "",
    ) -> bytes:
        """An honest response, but for what is said otherwise; see `Requests.request`."""
        body = self.body() if body is None else body
        lines = {
            **{"tag": "text-to-image-response/1", "nonce": str(self.nonce), "validator": hotkey(self.validator)},
            **{"miner": hotkey(self.miner), "status": str(status), "body": sha256(body)},
            **(signed or {}),
        }
        payload = "\n".join(lines.values())
        if wrapped:
            payload = f"<Bytes>{payload}</Bytes>"
        headers: dict[str, str | None] = {
            "content-type": "application/octet-stream",
            "content-length": str(len(body)),
            "x-response-signature": signature or self.signatures.sign(signed_by or self.miner, payload),
            **(replace or {}),
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value is not None)
        return f"HTTP/1.1 {status} X\r\n{head}{extra}\r\n".encode("latin-1") + body

    def error(self, status: int, code: str, **more: Any) -> bytes:
        """An error body in a signed response."""
        return self.response(json.dumps({"error": code, "message": "", **more}).encode(), status=status)

    def unsigned(self, status: int, code: str) -> bytes:
        """The same, without a signature."""
        body = json.dumps({"error": code, "message": ""}).encode()
        return self.response(body, status=status, signature="-", replace={"x-response-signature": None})


def add_signatures(table: Responses) -> None:
    """Who signed what."""
    table.add("honest", "answered", table.response())
    for name, signed in (
        ("signed with another tag", {"tag": "record-response/1"}),
        ("signed for another request", {"nonce": str(table.nonce - 1)}),
        ("signed for another validator", {"validator": hotkey("//Eve")}),
        ("signed for another miner", {"miner": hotkey("//Eve")}),
        ("signed for another status", {"status": "503"}),
        ("signed for another body", {"body": sha256(b"other")}),
    ):
        table.add(name, "bad_signature", table.response(signed=signed))
    table.add("signed by another miner", "bad_signature", table.response(signed_by="//Eve"))
    table.add("signed in <Bytes>", "bad_signature", table.response(wrapped=True))
    table.add("body changed on the way", "bad_signature", table.response().replace(b"pixels", b"Pixels"))
    table.add("signature of zeros", "bad_signature", table.response(signature="0x" + "00" * 64))
    table.add("signature without prefix", "bad_signature", table.response(signature="ab" * 64))
    table.add("unsigned", "bad_signature", table.response(signature="-", replace={"x-response-signature": None}))
    twice = table.response()
    line = next(line for line in twice.split(b"\r\n") if line.startswith(b"x-response-signature"))
    table.add("signed twice", "bad_signature", twice.replace(line, line + b"\r\n" + line, 1))
    swapped = table.response(table.body(), status=503, signed={"status": "200"})
    table.add("an answer's signature under an error", "bad_signature", swapped)


def add_framing(table: Responses) -> None:
    """What HTTP is accepted."""
    for name, result, replace, extra in (
        ("no length", "bad_response", {"content-length": None}, ""),
        ("two lengths", "bad_response", {}, "content-length: 5\r\n"),
        ("content encoding", "bad_response", {"content-encoding": "gzip"}, ""),
        ("length over the limit", "too_large", {"content-length": "99999999"}, ""),
    ):
        table.add(name, result, table.response(replace=dict(replace), extra=extra))
    body = table.body()
    chunked = table.response(replace={"content-length": None, "transfer-encoding": "chunked"}).partition(b"\r\n\r\n")[0]
    table.add("chunked", "bad_response", chunked + b"\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
    table.add("interim response first", "bad_response", b"HTTP/1.1 100 X\r\n\r\n" + table.response())
    table.add("redirect", "bad_response", table.response(status=307, extra="location: http://203.0.113.9/\r\n"))
    table.add("204", "bad_response", table.response(b"", status=204))
    table.add("206", "bad_response", table.response(status=206))
    table.add("cut short", "unreachable", table.response()[:-1])
    table.add("nothing", "unreachable", b"")
    table.add("not HTTP", "bad_response", b"SSH-2.0-miner\r\n\r\n")
    table.add("one header of 20,000", "bad_response", table.response(extra="a: " + "b" * 20_000 + "\r\n"))
    table.add("one header of 16,000", "answered", table.response(extra="a: " + "b" * 16_000 + "\r\n"))
    table.add("headers of 17,000", "bad_response", table.response(extra=("a: " + "b" * 995 + "\r\n") * 17))
    table.add("100 headers", "answered", table.response(extra="a: b\r\n" * 97))
    table.add("101 headers", "bad_response", table.response(extra="a: b\r\n" * 98))
    encodings = "content-encoding: identity\r\ncontent-encoding: gzip\r\n"
    table.add("content encoding after identity", "bad_response", table.response(extra=encodings))


def add_errors(table: Responses) -> None:
    """What is not a 200."""
    table.add("busy", "busy", table.error(503, "busy", retry_after_seconds=3))
    table.add("busy, unsigned", "failed", table.unsigned(503, "busy"))
    table.add("invalid synapse", "refused", table.error(422, "invalid_synapse"))
    table.add("no permit, unsigned", "refused", table.unsigned(403, "no_permit"))
    table.add("asked too often, unsigned", "refused", table.unsigned(429, "too_many_requests"))
    table.add("internal error", "failed", table.error(500, "internal_error"))
    table.add("deadline exceeded", "failed", table.error(504, "deadline_exceeded"))
    table.add("error over 4,096", "too_large", table.error(500, "internal_error", padding="x" * 4096))


def add_bodies(table: Responses) -> None:
    """Authentic bodies that break the format."""
    one = {"images": table.manifest()["images"][:1]}
    table.add("fewer images than asked for", "answered", table.response(table.body(one, images=IMAGES[0])))
    many = {"images": [*table.manifest()["images"], table.manifest()["images"][0]]}
    honest = json.dumps(table.manifest(), separators=(",", ":")).encode()
    for name, body in (
        ("empty", b""),
        ("three bytes", b"\0\0\0"),
        ("manifest over the limit", table.body(honest.ljust(16_385))),
        ("manifest longer than the body", table.body(length=16_384)),
        ("manifest of no JSON", table.body(b"{")),
        ("manifest with a repeated key", table.body(honest[:-1] + b',"images":[]}')),
        ("manifest with NaN", table.body(honest.replace(b'"seed":7', b'"seed":NaN'))),
        ("manifest with a byte order mark", table.body(b"\xef\xbb\xbf" + honest)),
        ("manifest not in UTF-8", table.body(honest.replace(b"test/model", b"test\xff"))),
        ("deep nesting", table.body(b"[" * 16_384)),
        ("unknown field", table.body(table.manifest(n=1))),
        ("no images", table.body({"images": []}, images=b"")),
        ("more images than asked for", table.body(many, images=b"".join(IMAGES) + IMAGES[0])),
        ("another size", table.body(table.manifest(width=128))),
        ("another format", table.body(table.manifest(format="gif"))),
        ("model with a line feed", table.body(table.manifest(model="a\nb"))),
        ("wrong hash", table.body(table.manifest(sha256=sha256(b"other")))),
        ("hash in capitals", table.body(table.manifest(sha256=sha256(IMAGES[0]).upper()))),
        ("image without bytes", table.body(table.manifest(bytes=0))),
        ("image with more bytes than there are", table.body(table.manifest(bytes=7))),
        ("bytes after the images", table.body(images=b"".join(IMAGES) + b"x")),
    ):
        table.add(name, "bad_response", table.response(body))
