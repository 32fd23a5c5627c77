"""Keys and signatures for the wire: btauth/1 requests and signed responses, with sr25519 hotkeys.

`bittensor.http_auth` does the signing and says which bytes are signed. The verifying is done here, because it takes a
signature over the payload wrapped in `<Bytes>` as well (what wallet extensions sign for any web page), anything at all
for the all-zero public key, and remembers nonces without bound. `bittensor`, half a second of imports, comes with the
first signer or verifier.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import sr25519

from ig_subnet.chain.nonces import MAX_AGE_SECONDS, MAX_SKEW_SECONDS, NonceStore
from protocol import AuthenticationError, VerifiedRequest
from protocol.signing import is_hotkey, parse_auth_headers

if TYPE_CHECKING:
    from bittensor.keyfiles import Keypair

__all__ = ["BtAuthVerifier", "KeypairSigner"]

_SECOND = 1_000_000_000  # nonces are nanoseconds since the epoch
_SR25519 = 1


class KeypairSigner:
    """Signs with a keypair that is in memory.

    Given a wallet, `http_auth.sign` would read the key file for every request: 855 us instead of 28.
    """

    def __init__(self, keypair: Keypair, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        if keypair.crypto_type != _SR25519:
            raise ValueError(f"the hotkey {keypair.ss58_address} is not an sr25519 key; the wire knows no other scheme")
        self._keypair = keypair
        self._hotkey: str = keypair.ss58_address
        self._clock_ns = clock_ns
        self._last_nonce = 0

    @property
    def hotkey(self) -> str:
        """The ss58 address."""
        return self._hotkey

    def sign_request(self, *, method: str, path: str, body: bytes, receiver: str) -> dict[str, str]:
        """btauth/1 headers, with a nonce that was not used before."""
        from bittensor import http_auth

        nonce = self._clock_ns()
        # The clock stood still or stepped back: count on, as far as a receiver would still take it for skew. Beyond
        # that it was corrected, and counting on would have every request refused until it has caught up.
        if self._last_nonce - MAX_SKEW_SECONDS * _SECOND <= nonce <= self._last_nonce:
            nonce = self._last_nonce + 1
        self._last_nonce = nonce
        headers: dict[str, str] = http_auth.sign(
            self._keypair, method=method, path=path, body=body, receiver_ss58=receiver, nonce_ns=nonce
        )
        return headers

    def sign(self, payload: bytes) -> bytes:
        """A 64-byte signature."""
        return bytes(self._keypair.sign(payload))


class BtAuthVerifier:
    """Verifies requests to `self_hotkey`, each at most once, and any hotkey's signatures."""

    def __init__(
        self, self_hotkey: str, *, nonces: NonceStore | None = None, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        from bittensor import http_auth, sp_core

        # Held here so that the half second of importing is spent now and not in the first request.
        self._build_payload, self._sp_core = http_auth.build_payload, sp_core
        self._self_hotkey = self_hotkey
        self._nonces = nonces if nonces is not None else NonceStore(clock_ns=clock_ns)
        self._clock_ns = clock_ns

    async def verify_request(
        self, *, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> VerifiedRequest:
        """See `protocol.Verifier`: what `http_auth.verify` checks, in its order, and what it leaves open.

        About 0.1 ms for a body of a few kilobytes. It stays on the event loop: the signature holds the GIL, so a thread
        would only add the hand-over (docs/decisions.md has the numbers). What is waited for is a store in a file.
        """
        claimed = parse_auth_headers([(name.encode(), value.encode()) for name, value in headers.items()])
        if (public_key := self._public_key(claimed.hotkey)) is None:
            raise AuthenticationError("the hotkey is not the ss58 address, in format 42, of a usable key")
        if claimed.receiver != self._self_hotkey:
            raise AuthenticationError("the request is for another receiver")
        age = self._clock_ns() - claimed.nonce
        if age > MAX_AGE_SECONDS * _SECOND:
            raise AuthenticationError(f"the nonce is {age / _SECOND:.1f} s old, over {MAX_AGE_SECONDS:g} s")
        if age < -MAX_SKEW_SECONDS * _SECOND:
            raise AuthenticationError(f"the nonce is {-age / _SECOND:.1f} s ahead, over {MAX_SKEW_SECONDS:g} s")
        payload = self._build_payload(
            scheme="sr25519",
            method=method,
            path=path,
            body=body,
            nonce_ns=claimed.nonce,
            sender_ss58=claimed.hotkey,
            receiver_ss58=claimed.receiver,
        )
        if not _verifies(public_key, payload, claimed.signature):
            raise AuthenticationError("the signature does not verify")
        # Last: only a request that passed everything may use up its nonce.
        if not await self._nonces.accept(claimed.hotkey, claimed.nonce):
            raise AuthenticationError("the nonce was accepted before, or is older than this process")
        return VerifiedRequest(hotkey=claimed.hotkey, nonce=claimed.nonce)

    def verify(self, hotkey: str, payload: bytes, signature: bytes) -> bool:
        """True if `signature` is `hotkey`'s sr25519 signature over exactly `payload`; about 0.05 ms."""
        public_key = self._public_key(hotkey) if is_hotkey(hotkey) else None
        return public_key is not None and _verifies(public_key, payload, signature)

    def _public_key(self, hotkey: str) -> bytes | None:
        """The 32 bytes of a hotkey; None for the all-zero key, for which anything verifies, and for a text that is not
        the one way the chain writes it (others are other texts of one key)."""
        try:
            public_key: bytes = self._sp_core.ss58_decode(hotkey)
        except ValueError:
            return None
        return public_key if any(public_key) and self._sp_core.ss58_encode(public_key) == hotkey else None


def _verifies(public_key: bytes, payload: bytes, signature: bytes) -> bool:
    """Whether it is the key's signature over exactly these bytes.

    `bittensor.sp_core.verify` would try the wrapped payload too, and not say which of the two matched.
    """
    try:
        return bool(sr25519.verify(signature, payload, public_key))
    except ValueError:  # not 64 bytes, not marked as sr25519, or the key is no point of the curve
        return False
