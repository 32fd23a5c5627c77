"""Where requests come from: what one address may take of a server."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Collection, Iterable

from .limits import Limits
from .rates import RateLimit

__all__ = ["Sources", "forwarded_for", "source_of"]

_FORWARDED_FOR = b"x-forwarded-for"


class Sources:
    """The connections and requests of each source, counted by all connections of one server.

    `trusted_proxies` are addresses whose word on who is behind them counts; those of anybody else are believed nothing.
    """

    def __init__(self, limits: Limits, trusted_proxies: Collection[str] = ()) -> None:
        self._limits = limits
        self._proxies = {_parse(proxy) for proxy in trusted_proxies}
        self._open: Counter[str] = Counter()
        # In the order of their arrival: who has not sent a complete request yet, and could be dropped for others; with
        # its source.
        self._silent: dict[asyncio.Transport, str] = {}
        self._rate = RateLimit(limits.address_seconds, limits.address_at_once) if limits.address_seconds else None

    def is_proxy(self, address: str) -> bool:
        """Whether this is a proxy whose X-Forwarded-For is believed."""
        return bool(self._proxies) and _parse(address) in self._proxies

    def enter(self, source: str, transport: asyncio.Transport, *, is_proxy: bool) -> bool:
        """Count a new connection; False if its source has its share already, which a proxy has not.

        A server that is full drops a connection without a complete request: the oldest of the source that has the most
        of them, with the new one. So whoever has one is safe while anybody has more, however fast others come anew.
        """
        if self._open[source] >= self._limits.max_connections_per_address and not is_proxy:
            return False
        if self._open.total() >= self._limits.max_connections:
            if not self._silent:
                return False
            victim = self._victim(source)
            self.spoke(victim)
            victim.abort()
        self._open[source] += 1
        self._silent[transport] = source
        return True

    def _victim(self, newcomer: str) -> asyncio.Transport:
        """Who gives way to one more of this source. A scan of all who are silent, since it happens only when full."""
        silent = Counter(self._silent.values())
        silent[newcomer] += 1
        # Sources stand in the order of their oldest, and the first of equals is taken: never a newcomer without others.
        crowd = max(silent, key=silent.__getitem__)
        return next(transport for transport, source in self._silent.items() if source == crowd)

    def spoke(self, transport: asyncio.Transport) -> None:
        """This connection sent a complete request."""
        self._silent.pop(transport, None)

    def leave(self, source: str, transport: asyncio.Transport) -> None:
        """A connection that entered has ended."""
        self._silent.pop(transport, None)
        self._open[source] -= 1
        if not self._open[source]:
            del self._open[source]

    def wait_seconds(self, source: str) -> float:
        """0 if this source may send one more request, and that is counted; else how long it must wait."""
        return self._rate.take(source) if self._rate is not None else 0.0


def forwarded_for(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The address that the nearest proxy saw: the last one in the last X-Forwarded-For (earlier ones are the caller's
    word). None without one, or if it is not an IP address."""
    values = [value for name, value in headers if name.lower() == _FORWARDED_FOR]
    if not values:
        return None
    address = values[-1].rpartition(b",")[2].strip().decode("latin-1")
    return address if _parse(address) is not None else None


def source_of(address: str) -> str:
    """Who is behind an address, for counting: an IPv4 address itself, an IPv6 address' /64 (one customer's)."""
    parsed = _parse(address)
    if parsed is None or parsed.version == 4:
        return str(parsed or address)
    return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))


def _parse(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address without its scope, an IPv4 one in IPv6 clothes as what it is; None if it is none."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return parsed.ipv4_mapped or parsed if parsed.version == 6 else parsed
