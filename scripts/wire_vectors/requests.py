"""Requests, honest and hostile, and what each must be answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bittensor.sp_core import ss58_encode

from wire_vectors.signatures import CLOCK_NS, Signatures, hotkey, keypair, pieces, sha256

SECOND = 1_000_000_000
REFUSED = {
    "//Charlie": "no_permit",
    "//Dave": "not_registered",
    "//Ferdie": "blacklisted",
    "//Grace": "too_little_stake",
}
"""Callers whom the receiver's policy refuses; it lets all others pass."""

SIGNED = {"invalid_synapse": 422}
UNSIGNED = {
    **{"malformed_request": 400, "authentication_failed": 401, "not_registered": 403, "no_permit": 403},
    **{"too_little_stake": 403, "blacklisted": 403, "not_found": 404, "method_not_allowed": 405},
    **{"length_required": 411, "request_too_large": 413, "unsupported_media_type": 415, "headers_too_large": 431},
}


def verdict(error: str | None) -> dict[str, Any]:
    """An answer: its status, its error code (None for a 200), and whether it carries a signature of the receiver."""
    if error is None:
        return {"status": 200, "error": None, "signed": True}
    return {"status": (SIGNED | UNSIGNED)[error], "error": error, "signed": error in SIGNED}


@dataclass
class Requests:
    """A table of requests from one caller to one receiver, each with a nonce of its own."""

    signatures: Signatures
    path: str
    caller: str
    receiver: str
    body: bytes
    cases: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, error: str | None, data: bytes, *more: tuple[str | None, bytes]) -> None:
        """One request on a connection of its own, or several one after the other."""
        exchanges = [{"send": pieces(sent), "verdict": verdict(must)} for must, sent in [(error, data), *more]]
        self.cases.append({"name": name, "signed": list(self.signatures.made), "exchanges": exchanges})
        self.signatures.made.clear()

    def request(
        self,
        body: bytes | None = None,
        *,
        line: str | None = None,
        caller: str | None = None,
        signed: dict[str, str] | None = None,
        age_ns: int = 0,
        signature: str | None = None,
        wrapped: bool = False,
        replace: dict[str, str | None] | None = None,
        extra: str = "",
    ) -> bytes:
        """An honest request, but for what is said otherwise.

        `signed` replaces lines of the signed payload by name, `replace` headers (None leaves one out), `extra` comes
        after the headers as it is. `age_ns` is how old the nonce is.
        """
        body = self.body if body is None else body
        caller = caller or self.caller
        nonce = CLOCK_NS - age_ns - (0 if age_ns else SECOND + len(self.cases))
        lines = {
            **{"tag": "btauth/1", "scheme": "sr25519", "method": "POST", "path": self.path, "body": sha256(body)},
            **{"nonce": str(nonce), "caller": hotkey(caller), "receiver": hotkey(self.receiver)},
            **(signed or {}),
        }
        payload = "\n".join(lines.values())
        if wrapped:
            payload = f"<Bytes>{payload}</Bytes>"
        headers: dict[str, str | None] = {
            "Host": "203.0.113.7:8091",
            "Connection": "close",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "X-Bittensor-Version": "1",
            "X-Bittensor-Hotkey": hotkey(caller),
            "X-Bittensor-Receiver": hotkey(self.receiver),
            "X-Bittensor-Nonce": str(nonce),
            "X-Bittensor-Signature": signature or self.signatures.sign(caller, payload),
            **(replace or {}),
        }
        first = line or f"POST {self.path} HTTP/1.1"
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value is not None)
        return f"{first}\r\n{head}{extra}\r\n".encode("latin-1") + body


def add_lines(table: Requests) -> None:
    """Request lines and what is not HTTP at all."""
    path = table.path
    for name, error, line in (
        ("another path", "not_found", "POST / HTTP/1.1"),
        ("trailing slash", "not_found", f"POST {path}/ HTTP/1.1"),
        ("two slashes", "not_found", f"POST /{path} HTTP/1.1"),
        ("query string", "not_found", f"POST {path}?a=b HTTP/1.1"),
        ("empty query string", "not_found", f"POST {path}? HTTP/1.1"),
        ("fragment", "not_found", f"POST {path}#a HTTP/1.1"),
        ("path spelt otherwise", "not_found", f"POST {path.replace('-', '%2D').replace('rec', 'r%65c')} HTTP/1.1"),
        ("absolute target", "not_found", f"POST http://203.0.113.7:8091{path} HTTP/1.1"),
        ("documentation", "not_found", "GET /docs HTTP/1.1"),
        ("GET", "method_not_allowed", f"GET {path} HTTP/1.1"),
        ("OPTIONS", "method_not_allowed", f"OPTIONS {path} HTTP/1.1"),
        ("method in small letters", "malformed_request", f"post {path} HTTP/1.1"),
        ("method that does not exist", "malformed_request", f"PAINT {path} HTTP/1.1"),
        ("HTTP/1.0", "malformed_request", f"POST {path} HTTP/1.0"),
        ("HTTP/0.9", "malformed_request", f"POST {path}"),
        ("HTTP/9.9", "malformed_request", f"POST {path} HTTP/9.9"),
        ("not ASCII in the path", "malformed_request", "POST /\xff HTTP/1.1"),
        ("tab in the request line", "malformed_request", f"POST\t{path} HTTP/1.1"),
    ):
        table.add(name, error, table.request(line=line))
    table.add("TLS", "malformed_request", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9)
    table.add("HTTP/2", "malformed_request", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    table.add("CONNECT", "malformed_request", b"CONNECT internal:22 HTTP/1.1\r\nHost: internal:22\r\n\r\n")


def add_framing(table: Requests) -> None:
    """Where a request ends, and how large it is."""
    honest = table.request()
    table.add("lines that end in a line feed alone", "malformed_request", honest.replace(b"\r\n", b"\n"))
    chunked = table.request(replace={"Content-Length": None, "Transfer-Encoding": "chunked"})
    head, _, body = chunked.partition(b"\r\n\r\n")
    table.add("chunked", "length_required", head + b"\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
    for name, error, replace, extra in (
        ("length and chunked", "malformed_request", {"Transfer-Encoding": "chunked"}, ""),
        ("transfer encoding identity", "malformed_request", {"Transfer-Encoding": "identity"}, ""),
        ("transfer encoding alone", "length_required", {"Content-Length": None, "Transfer-Encoding": "xchunked"}, ""),
        ("negative length", "malformed_request", {"Content-Length": "-1"}, ""),
        ("length with a sign", "malformed_request", {"Content-Length": f"+{len(table.body)}"}, ""),
        ("length in hexadecimal", "malformed_request", {"Content-Length": "0x10"}, ""),
        ("empty length", "malformed_request", {"Content-Length": ""}, ""),
        ("length of 30 digits", "malformed_request", {"Content-Length": "9" * 30}, ""),
        ("length of 10 digits", "request_too_large", {"Content-Length": "9" * 10}, ""),
        ("two lengths", "malformed_request", {}, "Content-Length: 5\r\n"),
        ("the same length twice", "malformed_request", {}, f"Content-Length: {len(table.body)}\r\n"),
        ("two lengths in one", "malformed_request", {"Content-Length": f"{len(table.body)}, 5"}, ""),
        ("expectation", "malformed_request", {"Expect": "100-continue"}, ""),
        ("websocket", "malformed_request", {"Connection": "Upgrade", "Upgrade": "websocket"}, ""),
        ("no host", "malformed_request", {"Host": None}, ""),
        ("two hosts", "malformed_request", {}, "host: other\r\n"),
        ("folded header", "malformed_request", {}, "A: b\r\n c\r\n"),
        ("space before the colon", "malformed_request", {}, "A : b\r\n"),
        ("header without a colon", "malformed_request", {}, "A\r\n"),
        ("header without a name", "malformed_request", {}, ": b\r\n"),
        ("zero byte in a header", "malformed_request", {}, "A: \0\r\n"),
        ("carriage return in a header", "malformed_request", {}, "A: b\rc\r\n"),
    ):
        table.add(name, error, table.request(replace=dict(replace), extra=extra))
    own = table.request().split(b"\r\n\r\n")[0].count(b"\r\n")
    table.add("100 headers", None, table.request(extra="A: b\r\n" * (100 - own)))
    table.add("101 headers", "headers_too_large", table.request(extra="A: b\r\n" * (101 - own)))
    table.add("one long header", "headers_too_large", table.request(extra="A: " + "b" * 16_384 + "\r\n"))
    table.add("many long headers", "headers_too_large", table.request(extra=("A: " + "b" * 997 + "\r\n") * 17))
    table.add("body too long", "request_too_large", table.request(b"x" * 32_769))
    table.add(
        "body of the greatest length",
        None,
        table.request(table.body.ljust(32_768 if b"prompt" in table.body else 1024)),
    )
    table.add("pipelined", "malformed_request", table.request(replace={"Connection": "keep-alive"}) * 2)
    table.add("bytes after the last body", None, table.request() + b"x" * 100)
    table.add("another media type", "unsupported_media_type", table.request(replace={"Content-Type": "text/plain"}))
    table.add("two media types", "unsupported_media_type", table.request(extra="Content-Type: application/json\r\n"))
    table.add("compressed", "unsupported_media_type", table.request(replace={"Content-Encoding": "gzip"}))
    table.add("no length and no body", "authentication_failed", table.request(replace={"Content-Length": None}))


def add_headers(table: Requests) -> None:
    """The shape of the authentication headers."""
    stranger = hotkey("//Eve")
    for name, header, value in (
        *(
            (f"no {header}", f"X-Bittensor-{header}", None)
            for header in ("Version", "Hotkey", "Receiver", "Nonce", "Signature")
        ),
        ("version 2", "X-Bittensor-Version", "2"),
        ("hotkey of 47", "X-Bittensor-Hotkey", "5" * 47),
        ("hotkey of 49", "X-Bittensor-Hotkey", "5" * 49),
        ("hotkey of 7,000", "X-Bittensor-Hotkey", "5" * 7000),
        ("hotkey with a zero", "X-Bittensor-Hotkey", "0" + "5" * 47),
        ("hotkey with a wrong checksum", "X-Bittensor-Hotkey", hotkey(table.caller)[:-1] + "z"),
        ("hotkey not ASCII", "X-Bittensor-Hotkey", "\xe9" * 48),
        ("somebody else's name", "X-Bittensor-Hotkey", stranger),
        ("receiver of a dash", "X-Bittensor-Receiver", "-"),
        ("another receiver", "X-Bittensor-Receiver", stranger),
        ("empty nonce", "X-Bittensor-Nonce", ""),
        ("nonce with a sign", "X-Bittensor-Nonce", f"+{CLOCK_NS}"),
        ("negative nonce", "X-Bittensor-Nonce", "-1"),
        ("nonce with underscores", "X-Bittensor-Nonce", "1_800_000_000_000_000_000"),
        ("nonce with leading zero", "X-Bittensor-Nonce", f"0{CLOCK_NS}"),
        ("nonce in hexadecimal", "X-Bittensor-Nonce", hex(CLOCK_NS)),
        ("nonce with a point", "X-Bittensor-Nonce", f"{CLOCK_NS}.0"),
        ("nonce of superscripts", "X-Bittensor-Nonce", "\xb2\xb3"),
        ("nonce of 20 digits", "X-Bittensor-Nonce", f"{CLOCK_NS}0"),
        ("nonce of 5,000 digits", "X-Bittensor-Nonce", "1" * 5000),
        ("another nonce", "X-Bittensor-Nonce", str(CLOCK_NS - 7)),
        ("empty signature", "X-Bittensor-Signature", ""),
        ("signature of a prefix", "X-Bittensor-Signature", "0x"),
        ("signature without prefix", "X-Bittensor-Signature", "ab" * 64),
        ("signature of 63 bytes", "X-Bittensor-Signature", "0x" + "ab" * 63),
        ("signature of 65 bytes", "X-Bittensor-Signature", "0x" + "ab" * 65),
        ("signature with spaces", "X-Bittensor-Signature", "0x" + "a " * 64),
        ("signature not hexadecimal", "X-Bittensor-Signature", "0x" + "gg" * 64),
        ("signature of zeros", "X-Bittensor-Signature", "0x" + "00" * 64),
        ("ed25519", "X-Bittensor-Crypto", "ed25519"),
        ("scheme by its number", "X-Bittensor-Crypto", "1"),
        ("unknown header", "X-Bittensor-Body", "1"),
    ):
        table.add(name, "authentication_failed", table.request(replace={header: value}))
    honest = table.request()
    start = honest.index(b"X-Bittensor-Signature: 0x") + len(b"X-Bittensor-Signature: 0x")
    capitals = honest[:start] + honest[start : start + 128].upper() + honest[start + 128 :]
    table.add("signature in capitals", "authentication_failed", capitals)
    for header in ("X-Bittensor-Hotkey", "x-bittensor-nonce", "X-BITTENSOR-SIGNATURE"):
        again = next(line for line in honest.decode("latin-1").split("\r\n") if line.lower().startswith(header.lower()))
        same = honest.replace(b"\r\n\r\n", f"\r\n{header}:{again.partition(':')[2]}\r\n\r\n".encode(), 1)
        table.add(f"{header} twice", "authentication_failed", same)
        honest = table.request()
    table.signatures.made.clear()
    table.add("the scheme by its name", None, table.request(replace={"X-Bittensor-Crypto": "sr25519"}))
    table.add("header names in small letters", None, _small_names(table.request()))


def _small_names(request: bytes) -> bytes:
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    small = [name.lower() + b":" + value for name, _, value in (line.partition(b":") for line in lines)]
    return b"\r\n".join([first, *small]) + b"\r\n\r\n" + body


def add_signatures(table: Requests) -> None:
    """What is signed, by whom, when, and how often."""
    for name, signed in (
        ("signed with another tag", {"tag": "btauth/2"}),
        ("signed as ed25519", {"scheme": "ed25519"}),
        ("signed for GET", {"method": "GET"}),
        ("signed for another path", {"path": "/v1/other"}),
        ("signed for another body", {"body": sha256(b"{}")}),
        ("signed with capitals in the hash", {"body": sha256(table.body).upper()}),
        ("signed for another nonce", {"nonce": str(CLOCK_NS - 1)}),
        ("signed for another caller", {"caller": hotkey("//Eve")}),
        ("signed for another receiver", {"receiver": hotkey("//Eve")}),
        ("signed for no receiver", {"receiver": "-"}),
    ):
        table.add(name, "authentication_failed", table.request(signed=signed))
    table.add("signed in <Bytes>", "authentication_failed", table.request(wrapped=True))
    changed = table.request().replace(b'"deadline_seconds":12', b'"deadline_seconds":13')
    table.add("body changed on the way", "authentication_failed", changed)
    zero = "5C4hrfjw9DjXZTzV3MwzrrAr9P1MJhSrvWGWqi1eSuyUpnhM"
    universal = table.request(signature="0x" + "00" * 63 + "80", replace={"X-Bittensor-Hotkey": zero})
    table.add("the all-zero key, for which anything verifies", "authentication_failed", universal)
    other = ss58_encode(keypair(table.caller).public_key, 0)  # 48 characters as well
    renamed = table.request(signed={"caller": other}, replace={"X-Bittensor-Hotkey": other})
    table.add("the caller's key in the format of another chain", "authentication_failed", renamed)
    for name, error, age in (
        ("10 s old", None, 10 * SECOND),
        ("over 10 s old", "authentication_failed", 10 * SECOND + 1),
        ("2 s ahead", None, -2 * SECOND),
        ("over 2 s ahead", "authentication_failed", -2 * SECOND - 1),
        ("an hour old", "authentication_failed", 3600 * SECOND),
    ):
        table.add(name, error, table.request(age_ns=age))
    honest = table.request()
    table.add("replay", None, honest, ("authentication_failed", honest))
    mine = table.request()
    table.add("first with a broken signature, then honest", "authentication_failed", _break(mine), (None, mine))


def _break(request: bytes) -> bytes:
    at = request.index(b"X-Bittensor-Signature: 0x") + 60
    return request[:at] + (b"0" if request[at : at + 1] != b"0" else b"1") + request[at + 1 :]


def add_callers(table: Requests) -> None:
    """Whom the policy refuses, before a signature is looked at."""
    for uri, error in REFUSED.items():
        table.add(f"{error}, rightly signed", error, table.request(caller=uri))
        table.add(f"{error}, by name only", error, table.request(replace={"X-Bittensor-Hotkey": hotkey(uri)}))


def add_synapses(table: Requests) -> None:
    """Authentic bodies that are no synapse for images."""
    body = table.body
    for name, error, changed in (
        (
            "the greatest of all numbers",
            None,
            _set(body, width=2048, height=2048, num_images=16, seed=2**32 - 1, steps=200),
        ),
        (
            "fields with defaults left out",
            None,
            b'{"prompt":"a","width":16,"height":16,"seed":0,"deadline_seconds":600}',
        ),
        (
            "spaces and another order",
            None,
            b'{ "seed": 0, "deadline_seconds": 1e1,\n\t"height": 16, "width": 16, "prompt": "a" }',
        ),
        ("1,024 characters beyond 16 bits", None, _set(body, prompt='"' + "\\ud83d\\ude00" * 1024 + '"')),
        ("1,025 characters", "invalid_synapse", _set(body, prompt='"' + "a" * 1025 + '"')),
        ("empty body", "invalid_synapse", b""),
        ("not JSON", "invalid_synapse", b"prompt=a"),
        ("not UTF-8", "invalid_synapse", body.replace(b"circle", b"c\xffrcle")),
        ("byte order mark", "invalid_synapse", b"\xef\xbb\xbf" + body),
        ("deep nesting", "invalid_synapse", b"[" * 32_000),
        ("an array", "invalid_synapse", b"[" + body + b"]"),
        ("two values", "invalid_synapse", body + body),
        ("comma at the end", "invalid_synapse", body[:-1] + b",}"),
        ("field twice", "invalid_synapse", body[:-1] + b',"seed":8}'),
        ("unknown field", "invalid_synapse", body[:-1] + b',"n":1}'),
        ("field left out", "invalid_synapse", body.replace(b'"seed":7,', b"")),
        ("empty prompt", "invalid_synapse", _set(body, prompt='""')),
        ("control character", "invalid_synapse", _set(body, prompt='"a\\u0000"')),
        ("control character beyond ASCII", "invalid_synapse", _set(body, prompt='"a\\u0085"')),
        ("half of a surrogate pair", "invalid_synapse", _set(body, prompt='"a\\ud83d"')),
        ("width over the limit", "invalid_synapse", _set(body, width=2049)),
        ("width under the limit", "invalid_synapse", _set(body, width=15)),
        ("width with a point", "invalid_synapse", _set(body, width=64.0)),
        ("width as text", "invalid_synapse", _set(body, width='"64"')),
        ("width as truth", "invalid_synapse", _set(body, width="true")),
        ("width of 400 digits", "invalid_synapse", _set(body, width="9" * 400)),
        ("no images", "invalid_synapse", _set(body, num_images=0)),
        ("17 images", "invalid_synapse", _set(body, num_images=17)),
        ("negative seed", "invalid_synapse", _set(body, seed=-1)),
        ("seed of 33 bits", "invalid_synapse", _set(body, seed=2**32)),
        ("no steps", "invalid_synapse", _set(body, steps=0)),
        ("deadline of nothing", "invalid_synapse", _set(body, deadline_seconds=0)),
        ("deadline of a year", "invalid_synapse", _set(body, deadline_seconds="3e7")),
        ("deadline that is no number", "invalid_synapse", _set(body, deadline_seconds="NaN")),
        ("deadline without end", "invalid_synapse", _set(body, deadline_seconds="Infinity")),
    ):
        table.add(name, error, table.request(changed))


def add_record_synapses(table: Requests) -> None:
    """Authentic bodies that ask for no record."""
    for name, error, body in (
        ("no fields", None, b"{}"),
        ("the greatest of all numbers", None, b'{"rounds":32,"before_round":9007199254740991,"deadline_seconds":60}'),
        ("too many rounds", "invalid_synapse", b'{"rounds":33}'),
        ("no rounds", "invalid_synapse", b'{"rounds":0}'),
        ("rounds as text", "invalid_synapse", b'{"rounds":"2"}'),
        ("rounds twice", "invalid_synapse", b'{"rounds":2,"rounds":3}'),
        ("a round of 54 bits", "invalid_synapse", b'{"before_round":9007199254740992}'),
        ("of another miner", "invalid_synapse", b'{"hotkey":"%s"}' % hotkey("//Eve").encode()),
        ("deep nesting", "invalid_synapse", b"[" * 1024),
        ("1,025 bytes", "request_too_large", b"{}".ljust(1025)),
    ):
        table.add(name, error, table.request(body))
    images = table.request(line="POST /v1/text-to-image HTTP/1.1", signed={"path": "/v1/text-to-image"})
    table.add("the path of images", "not_found", images)
    table.add(
        "signed for the path of images", "authentication_failed", table.request(signed={"path": "/v1/text-to-image"})
    )


def _set(body: bytes, **fields: object) -> bytes:
    """The synapse with other values, as they are written in JSON."""
    for name, value in fields.items():
        start = body.index(f'"{name}":'.encode()) + len(name) + 3
        end = min(at for at in (body.find(b',"', start), len(body) - 1) if at >= 0)
        body = body[:start] + str(value).encode() + body[end:]
    return body
