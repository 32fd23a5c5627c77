"""Wallets on disk: what a neuron reads, what it must not need, and what it is told when a file is missing."""

from __future__ import annotations

import stat
from pathlib import Path

import bittensor as bt
import pytest

from ig_subnet.chain import (
    KeyFileExists,
    KeyFileMissing,
    KeyFileUnusable,
    WalletError,
    coldkey_warning,
    create_wallet,
    load_coldkey,
    load_wallet,
)


def test_made_and_loaded(tmp_path: Path) -> None:
    made = create_wallet("cold", "hot", tmp_path)
    loaded = load_wallet("cold", "hot", tmp_path)
    assert (loaded.name, loaded.hotkey_name) == ("cold", "hot")
    assert loaded.hotkey_address == made.hotkey_address == made.hotkey.ss58_address
    assert loaded.coldkey_address == load_coldkey("cold", tmp_path).ss58_address
    assert loaded.hotkey.verify(b"message", made.hotkey.sign(b"message"))
    assert "hotkey=" not in repr(loaded)


def test_the_layout_is_the_ecosystems(tmp_path: Path) -> None:
    made = create_wallet("cold", "hot", tmp_path)
    theirs = bt.Wallet("cold", "hot", str(tmp_path))
    assert theirs.hotkey.ss58_address == theirs.hotkeypub.ss58_address == made.hotkey_address
    assert theirs.coldkey.ss58_address == theirs.coldkeypub.ss58_address == made.coldkey_address
    for file in tmp_path.rglob("*"):
        assert not stat.S_IMODE(file.stat().st_mode) & 0o077, file


def test_a_neuron_needs_neither_coldkey_nor_hotkeypub(tmp_path: Path) -> None:
    made = create_wallet("cold", "hot", tmp_path)
    (tmp_path / "cold" / "coldkey").unlink()
    (tmp_path / "cold" / "hotkeys" / "hotpub.txt").unlink()
    loaded = load_wallet("cold", "hot", tmp_path)
    assert (loaded.hotkey_address, loaded.coldkey_address) == (made.hotkey_address, made.coldkey_address)


def test_development_keys(tmp_path: Path) -> None:
    wallet = create_wallet("alice", "hot", tmp_path, coldkey_uri="//Alice", hotkey_uri="//Alice//1")
    assert wallet.coldkey_address == "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
    again = create_wallet("alice", "second", tmp_path, coldkey_uri="//Alice")
    assert again.coldkey_address == wallet.coldkey_address
    assert again.hotkey_address != wallet.hotkey_address


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    create_wallet("cold", "hot", tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(KeyFileExists, match="hotkeys/hot exists already"):
        create_wallet("cold", "hot", tmp_path)
    with pytest.raises(KeyFileExists, match="coldkey exists already"):
        create_wallet("cold", "other", tmp_path, coldkey_uri="//Alice")
    (tmp_path / "cold" / "coldkeypub.txt").rename(tmp_path / "aside")
    with pytest.raises(KeyFileExists, match="coldkey exists already"):
        create_wallet("cold", "other", tmp_path)
    (tmp_path / "aside").rename(tmp_path / "cold" / "coldkeypub.txt")
    assert before == {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}


def test_a_missing_file_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(KeyFileMissing) as raised:
        load_wallet("cold", "hot", tmp_path)
    assert str(tmp_path / "cold" / "coldkeypub.txt") in str(raised.value)
    assert f"`btcli wallet new-coldkey --wallet cold --wallet-path {tmp_path}`" in str(raised.value)

    create_wallet("cold", "hot", tmp_path)
    with pytest.raises(KeyFileMissing) as raised:
        load_wallet("cold", "cool", tmp_path)
    assert raised.value.path == tmp_path / "cold" / "hotkeys" / "cool"
    assert f"new-hotkey --wallet cold --wallet-path {tmp_path} --wallet-hotkey cool" in str(raised.value)


def test_the_default_path_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(KeyFileMissing, match=str(tmp_path / ".bittensor" / "wallets" / "default")):
        load_wallet()


def test_files_that_are_no_keys(tmp_path: Path) -> None:
    create_wallet("cold", "hot", tmp_path)
    path = tmp_path / "cold" / "hotkeys" / "hot"
    for content in (b"", b"{}", b"not json", b"\xff\xfe\x00", b'{"secretSeed": "0x12"}'):
        path.write_bytes(content)
        with pytest.raises(KeyFileUnusable, match="hotkeys/hot cannot be used"):
            load_wallet("cold", "hot", tmp_path)


def test_a_password_is_never_asked_for(tmp_path: Path) -> None:
    create_wallet("cold", "hot", tmp_path)
    (tmp_path / "cold" / "hotkeys" / "hot").write_bytes(b"$NACL" + bytes(range(64)))  # the mark of an encrypted file
    with pytest.raises(KeyFileUnusable, match="protected by a password"):
        load_wallet("cold", "hot", tmp_path)


def test_a_coldkey_that_anyone_could_use_is_warned_of(tmp_path: Path) -> None:
    create_wallet("cold", "hot", tmp_path)
    warning = coldkey_warning("cold", tmp_path)
    assert warning is not None
    assert str(tmp_path / "cold" / "coldkey") in warning
    files = bt.Wallet("cold", "hot", str(tmp_path))
    files.coldkey_file.set_keypair(load_coldkey("cold", tmp_path), encrypt=True, overwrite=True, password="secret")
    assert coldkey_warning("cold", tmp_path) is None
    for mark in (b"$ANSIBLE_VAULT;1.1", b"gAAAAABh", b""):
        (tmp_path / "cold" / "coldkey").write_bytes(mark)
        assert coldkey_warning("cold", tmp_path) is None
    (tmp_path / "cold" / "coldkey").unlink()
    assert coldkey_warning("cold", tmp_path) is None


def test_every_error_is_a_wallet_error() -> None:
    assert all(issubclass(error, WalletError) for error in (KeyFileMissing, KeyFileExists, KeyFileUnusable))
