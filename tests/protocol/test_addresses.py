"""Where a validator may be sent by a miner's announcement."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import AddressError
from protocol.addresses import check_address

PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e"]
ONLY_WITH_ALLOW_PRIVATE = [
    "127.0.0.1",
    "127.8.9.1",
    "10.0.0.1",
    "172.16.3.4",
    "192.168.1.1",
    "100.64.0.1",
    "::1",
    "fd00::1",
]
NEVER = [
    "0.0.0.0",
    "0.1.2.3",
    "169.254.169.254",
    "168.63.129.16",
    "100.100.100.200",
    "fd00:ec2::254",
    "fd20:0ce::254",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "2606:4700:4700::1111%1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::",
    "192.0.0.192",
    "192.88.99.1",
    "198.51.100.1",
    "2001:db8::1",
    "2001:10::1",
    "3fff::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "fec0::1",
    "",
    "localhost",
    "example.com",
    "2130706433",
    "0x7f.1",
    "127.1",
    "0177.0.0.1",
    "127.0.0.1 ",
    "127.0.0.1\n",
    "[::1]",
    "8.8.8.8/32",
    "8.8.8.8:80",
    "user@8.8.8.8",
    "٨.8.8.8",
    "8" * 10_000,
]


@pytest.mark.parametrize("host", PUBLIC)
@pytest.mark.parametrize("allow_private", [False, True])
def test_public_addresses_pass(host: str, allow_private: bool) -> None:
    assert check_address(host, 8091, allow_private=allow_private) == host


@pytest.mark.parametrize("host", ONLY_WITH_ALLOW_PRIVATE)
def test_private_addresses_need_permission(host: str) -> None:
    assert check_address(host, 8091, allow_private=True) == host
    with pytest.raises(AddressError, match="address is private"):
        check_address(host, 8091, allow_private=False)


@pytest.mark.parametrize("host", NEVER)
@pytest.mark.parametrize("allow_private", [False, True])
def test_never(host: str, allow_private: bool) -> None:
    with pytest.raises(AddressError):
        check_address(host, 8091, allow_private=allow_private)


@pytest.mark.parametrize("port", [-1, 0, 65536])
def test_ports(port: int) -> None:
    with pytest.raises(AddressError, match=r"port is not in 1\.\.65535"):
        check_address("8.8.8.8", port, allow_private=True)


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_an_address_error(host: str) -> None:
    try:
        check_address(host, 1, allow_private=True)
    except AddressError:
        pass
