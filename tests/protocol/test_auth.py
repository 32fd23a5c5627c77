"""The sr25519 signer and verifier: what they accept once, and what never."""

from __future__ import annotations

import asyncio
import time

import pytest
from bittensor import http_auth, sp_core
from bittensor.keyfiles import Keypair
from wire_peers import Keys

from ig_subnet.chain.auth import BtAuthVerifier, KeypairSigner
from ig_subnet.chain.nonces import MAX_AGE_SECONDS, MAX_SKEW_SECONDS, NonceStore
from protocol import AuthenticationError, VerifiedRequest

PATH = "/v1/text-to-image"
BODY = b'{"prompt":"a cat"}'
SECOND = 1_000_000_000


def verify(
    verifier: BtAuthVerifier, headers: dict[str, str], *, method: str = "POST", path: str = PATH, body: bytes = BODY
) -> VerifiedRequest:
    return asyncio.run(verifier.verify_request(method=method, path=path, body=body, headers=headers))


def signed(keypair: Keypair, receiver: str, nonce: int | None = None) -> dict[str, str]:
    return http_auth.sign(keypair, method="POST", path=PATH, body=BODY, receiver_ss58=receiver, nonce_ns=nonce)


@pytest.fixture
def verifier(keys: Keys) -> BtAuthVerifier:
    return BtAuthVerifier(keys.miner.hotkey)


@pytest.fixture(scope="session")
def keypair() -> Keypair:
    return Keypair.create_from_uri("//Validator")


def test_a_request_is_accepted_once(keys: Keys, verifier: BtAuthVerifier) -> None:
    headers = keys.validator.sign_request(method="POST", path=PATH, body=BODY, receiver=keys.miner.hotkey)
    assert verify(verifier, headers) == VerifiedRequest(keys.validator.hotkey, int(headers["X-Bittensor-Nonce"]))
    with pytest.raises(AuthenticationError, match="accepted before"):
        verify(verifier, headers)


def test_what_a_signature_covers(keys: Keys, verifier: BtAuthVerifier) -> None:
    headers = keys.validator.sign_request(method="POST", path=PATH, body=BODY, receiver=keys.miner.hotkey)
    later = str(int(headers["X-Bittensor-Nonce"]) + 1)
    for wrong in (
        lambda: verify(verifier, headers, body=BODY + b" "),
        lambda: verify(verifier, headers, path=PATH + "?a=b"),
        lambda: verify(verifier, headers, method="GET"),
        lambda: verify(verifier, headers | {"X-Bittensor-Nonce": later}),
        lambda: verify(verifier, headers | {"X-Bittensor-Hotkey": keys.stranger.hotkey}),
        lambda: verify(verifier, headers | {"X-Bittensor-Signature": "0x" + "00" * 64}),
    ):
        with pytest.raises(AuthenticationError, match="does not verify"):
            wrong()
    with pytest.raises(AuthenticationError, match="another receiver"):
        verify(BtAuthVerifier(keys.stranger.hotkey), headers)
    verify(verifier, headers)  # none of the attempts used up the nonce


@pytest.mark.parametrize("age", [MAX_AGE_SECONDS + 1, -MAX_SKEW_SECONDS - 1, 3600.0, -3600.0])
def test_stale_and_early_requests_are_refused(
    age: float, keys: Keys, keypair: Keypair, verifier: BtAuthVerifier
) -> None:
    with pytest.raises(AuthenticationError, match="nonce is"):
        verify(verifier, signed(keypair, keys.miner.hotkey, time.time_ns() - int(age * SECOND)))


def test_requests_from_before_the_start_are_refused(keys: Keys, keypair: Keypair) -> None:
    """A restart forgets which nonces were accepted, so it accepts none of that time."""
    headers = signed(keypair, keys.miner.hotkey)
    verify(BtAuthVerifier(keys.miner.hotkey, nonces=NonceStore(clock_ns=lambda: 0)), headers)
    with pytest.raises(AuthenticationError, match="older than this process"):
        verify(BtAuthVerifier(keys.miner.hotkey), headers)


def test_wrapped_signatures_are_refused(keys: Keys, keypair: Keypair, verifier: BtAuthVerifier) -> None:
    """What a wallet extension signs for a web page is no request and no response."""
    nonce = time.time_ns()
    payload = http_auth.build_payload(
        scheme="sr25519",
        method="POST",
        path=PATH,
        body=BODY,
        nonce_ns=nonce,
        sender_ss58=keypair.ss58_address,
        receiver_ss58=keys.miner.hotkey,
    )
    wrapped = keypair.sign(b"<Bytes>" + payload + b"</Bytes>")
    headers = signed(keypair, keys.miner.hotkey, nonce) | {"X-Bittensor-Signature": "0x" + wrapped.hex()}
    assert sp_core.verify(payload, wrapped, keypair.ss58_address, 1)  # the library alone accepts it
    with pytest.raises(AuthenticationError, match="does not verify"):
        verify(verifier, headers)
    assert not verifier.verify(keypair.ss58_address, payload, wrapped)
    assert verifier.verify(keypair.ss58_address, payload, keypair.sign(payload))


def test_the_all_zero_key_is_refused(keys: Keys, verifier: BtAuthVerifier) -> None:
    zero = sp_core.ss58_encode(bytes(32))
    universal = bytes(63) + b"\x80"
    assert sp_core.verify(b"anything", universal, zero, 1)  # the library alone accepts it
    assert not verifier.verify(zero, b"anything", universal)
    headers = keys.validator.sign_request(method="POST", path=PATH, body=BODY, receiver=keys.miner.hotkey)
    with pytest.raises(AuthenticationError, match="usable key"):
        verify(verifier, headers | {"X-Bittensor-Hotkey": zero, "X-Bittensor-Signature": "0x" + universal.hex()})


def test_another_text_of_the_same_key_is_refused(verifier: BtAuthVerifier) -> None:
    """With two texts of one key a ban, a count or a nonce of one would not hold for the other."""
    alice = Keypair.create_from_uri("//Alice")
    polkadot = sp_core.ss58_encode(alice.public_key, 0)
    assert len(polkadot) == 48
    assert sp_core.verify(b"payload", alice.sign(b"payload"), polkadot, 1)
    assert not verifier.verify(polkadot, b"payload", alice.sign(b"payload"))


@pytest.mark.parametrize("hotkey", ["", "5", "5" * 48, "x" * 65_000, "0" * 48])
@pytest.mark.parametrize("signature", [b"", bytes(64), bytes(65)])
def test_verify_never_raises(hotkey: str, signature: bytes, keys: Keys, verifier: BtAuthVerifier) -> None:
    assert not verifier.verify(hotkey, b"payload", signature)
    assert not verifier.verify(keys.miner.hotkey, b"payload", signature)


def test_what_it_accepts_the_sdk_accepts_and_the_other_way_round(keys: Keys, keypair: Keypair) -> None:
    """`http_auth.verify` is the reference: on shapes that are allowed at all, and but for a wrapped signature."""
    clock = Clock()
    for age in (-3.0, -2.0, -1.9, 0.0, 9.9, 10.0, 10.1):
        headers = signed(keypair, keys.miner.hotkey, clock.now - int(age * SECOND))
        stranger = signed(keypair, keys.stranger.hotkey, clock.now - int(age * SECOND))
        forged = headers | {"X-Bittensor-Signature": stranger["X-Bittensor-Signature"]}
        for case in (headers, stranger, forged, headers | {"X-Bittensor-Crypto": "sr25519"}):
            verifier = BtAuthVerifier(keys.miner.hotkey, nonces=NonceStore(clock_ns=lambda: 0), clock_ns=clock)
            ours: object
            try:
                ours = verify(verifier, case).nonce
            except AuthenticationError:
                ours = None
            theirs: object
            try:
                theirs = http_auth.verify(
                    *(case, BODY),
                    **{"method": "POST", "path": PATH, "self_hotkey_ss58": keys.miner.hotkey, "now_ns": clock.now},
                    nonce_store=http_auth.InMemoryNonceStore(),
                ).nonce_ns
            except http_auth.AuthError:
                theirs = None
            assert ours == theirs


def test_malformed_headers_never_reach_the_library(verifier: BtAuthVerifier) -> None:
    with pytest.raises(AuthenticationError, match="is missing"):
        verify(verifier, {})
    with pytest.raises(AuthenticationError, match="48 characters"):
        verify(verifier, signed(Keypair.create_from_uri("//V"), "x" * 60_000))


def test_nonces_of_a_signer_never_repeat(keypair: Keypair, keys: Keys) -> None:
    clock = Clock()
    signer = KeypairSigner(keypair, clock_ns=clock)

    def nonce() -> int:
        headers = signer.sign_request(method="POST", path=PATH, body=BODY, receiver=keys.miner.hotkey)
        return int(headers["X-Bittensor-Nonce"])

    start = clock.now
    assert [nonce(), nonce()] == [start, start + 1]  # the clock stands still
    clock.now -= SECOND
    assert nonce() == start + 2  # steps back a little
    clock.now -= 3600 * SECOND
    assert [nonce(), nonce()] == [clock.now, clock.now + 1]  # is corrected
    clock.now += 10
    assert nonce() == clock.now


class Clock:
    def __init__(self) -> None:
        self.now = 1_000 * SECOND

    def __call__(self) -> int:
        return self.now


def test_only_sr25519_keys_sign() -> None:
    ed25519 = Keypair.create_from_uri("//Validator", crypto_type=0)
    with pytest.raises(ValueError, match="not an sr25519 key"):
        KeypairSigner(ed25519)
