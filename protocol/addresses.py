"""Which announced addresses a validator may connect to. A miner announces what it likes: it may point anywhere."""

from __future__ import annotations

import ipaddress

from .errors import AddressError

__all__ = ["check_address"]

# The only IPv6 block that holds public hosts. Outside it are forms that carry an IPv4 address (mapped, compatible,
# NAT64), some of which the standard library calls global.
_PUBLIC_V6 = ipaddress.ip_network("2000::/3")
# What `allow_private` opens. Link-local is not among them: cloud metadata services live there.
_LOCAL = [
    ipaddress.ip_network(block)
    for block in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "::1/128",
        "fc00::/7",
    )
]
# Not hosts of the public, whatever `is_global` of this Python's version says (RFC 6890, 7526, 9637); the first holds a
# cloud's metadata service. So do the single addresses, one of them public by its number: Azure, Alibaba, AWS, Google.
_NEVER = [
    ipaddress.ip_network(block)
    for block in (
        "192.0.0.0/24",
        "192.88.99.0/24",
        "2001::/23",
        "3fff::/20",
        "168.63.129.16",
        "100.100.100.200",
        "fd00:ec2::254",
        "fd20:ce::254",
    )
]
_LONGEST_TEXT = 45  # of an IPv6 address


def check_address(host: str, port: int, *, allow_private: bool) -> str:
    """The IP address in canonical text, if a connection to it may be opened. Names are refused, not resolved.

    Without `allow_private` only globally reachable unicast addresses pass; with it loopback, private and shared
    (100.64/10) ranges as well. Multicast, link-local, unspecified, reserved and scoped addresses and the metadata
    services of clouds never pass, nor IPv6 forms that embed an IPv4 address. Raises `AddressError` with the reason.
    """
    if not 1 <= port <= 65535:
        raise AddressError("the port is not in 1..65535")
    try:
        address = ipaddress.ip_address(host if len(host) <= _LONGEST_TEXT else "")
    except ValueError:
        raise AddressError("the host is not an IP address") from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise AddressError("the address has a scope")
        if address.sixtofour or address.teredo:
            raise AddressError("the address embeds an IPv4 address")
    if any(address in block for block in _NEVER):
        raise AddressError("the address is not a globally reachable host's")
    if any(address in block for block in _LOCAL):
        if not allow_private:
            raise AddressError("the address is private; it is allowed on a local network only")
    elif not address.is_global or address.is_multicast or (address.version == 6 and address not in _PUBLIC_V6):
        raise AddressError("the address is not a globally reachable host's")
    return str(address)
