"""Wallets on disk, in the ecosystem's layout: `<path>/<name>/coldkeypub.txt` and `<path>/<name>/hotkeys/<hotkey>`.

A neuron reads these two files and nothing else. Coldkeys are touched only by what sets up a local chain.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import bittensor as bt
from bittensor.keyfiles import Keyfile, KeyfileError, Keypair

from ig_subnet.chain.errors import KeyFileExists, KeyFileMissing, KeyFileUnusable

DEFAULT_PATH = Path("~/.bittensor/wallets")

# How the SDK's three ways to encrypt a key file begin.
_ENCRYPTED = (b"$NACL", b"$ANSI", b"gAAAA")
_MARK_BYTES = 5


@dataclass(frozen=True)
class Wallet:
    """A neuron's identity: the hotkey, which signs, and the address of the coldkey, which owns it."""

    name: str
    hotkey_name: str
    hotkey: Keypair = field(repr=False)
    coldkey_address: str

    @property
    def hotkey_address(self) -> str:
        return self.hotkey.ss58_address


def load_wallet(name: str = "default", hotkey: str = "default", path: str | Path = DEFAULT_PATH) -> Wallet:
    """The wallet `name` with its hotkey `hotkey`, from coldkeypub.txt and the hotkey's file alone.

    Raises KeyFileMissing, with the btcli command that makes the file, and KeyFileUnusable.
    """
    files = bt.Wallet(name, hotkey, str(Path(path).expanduser()))
    where = f"--wallet {name} --wallet-path {path}"
    coldkeypub = _read(
        files.coldkeypub_file, f"the coldkey's public half of wallet {name!r}", f"btcli wallet new-coldkey {where}"
    )
    pair = _read(
        files.hotkey_file,
        f"hotkey {hotkey!r} of wallet {name!r}",
        f"btcli wallet new-hotkey {where} --wallet-hotkey {hotkey}",
    )
    return Wallet(name=name, hotkey_name=hotkey, hotkey=pair, coldkey_address=coldkeypub.ss58_address)


def coldkey_warning(name: str = "default", path: str | Path = DEFAULT_PATH) -> str | None:
    """What to tell an operator whose coldkey this process could read, and no password protects; else None.

    Of the file only the first five bytes are ever read: they say whether it is encrypted.
    """
    file = Path(path).expanduser() / name / "coldkey"
    try:
        with file.open("rb", buffering=0) as opened:
            mark = opened.read(_MARK_BYTES)
    except OSError:
        return None
    if not mark or mark in _ENCRYPTED:
        return None
    return (
        f"the coldkey {file} can be read by this process and no password protects it: whoever breaks in can move its "
        "money. A neuron needs coldkeypub.txt and the hotkey only; keep the coldkey on another machine"
    )


def load_coldkey(name: str, path: str | Path = DEFAULT_PATH) -> Keypair:
    """The coldkey of a wallet made by `create_wallet`: one that no password protects. Raises as `load_wallet`."""
    files = bt.Wallet(name, path=str(Path(path).expanduser()))
    command = f"btcli wallet new-coldkey --no-password --wallet {name} --wallet-path {path}"
    return _read(files.coldkey_file, f"the coldkey of wallet {name!r}", command)


def create_wallet(
    name: str,
    hotkey: str,
    path: str | Path,
    *,
    coldkey_uri: str | None = None,
    hotkey_uri: str | None = None,
) -> Wallet:
    """Make a hotkey and, where the wallet is new, its coldkey, both without a password: for local chains only.

    Keys are random, or derived from a development URI such as "//Alice". Raises KeyFileExists where the hotkey exists,
    or where the wallet exists and a coldkey URI asks for another coldkey.
    """
    files = bt.Wallet(name, hotkey, str(Path(path).expanduser()))
    hotkey_path = Path(files.hotkey_file.path)
    if hotkey_path.exists():
        raise KeyFileExists(hotkey_path)
    coldkey_path = Path(files.coldkey_file.path)
    if not files.coldkeypub_file.exists_on_device():
        if coldkey_path.exists():
            raise KeyFileExists(coldkey_path)
        coldkey = _new_keypair(coldkey_uri)
        files.coldkey_file.set_keypair(coldkey, encrypt=False)
        files.regenerate_coldkeypub(public_key=coldkey.public_key.hex())
    elif coldkey_uri is not None and _new_keypair(coldkey_uri).ss58_address != files.coldkeypub.ss58_address:
        raise KeyFileExists(coldkey_path)
    hotkey_pair = _new_keypair(hotkey_uri)
    files.hotkey_file.set_keypair(hotkey_pair, encrypt=False)
    files.regenerate_hotkeypub(public_key=hotkey_pair.public_key.hex())
    return load_wallet(name, hotkey, path)


def _new_keypair(uri: str | None) -> Keypair:
    return Keypair.create_from_uri(uri if uri is not None else Keypair.generate_mnemonic(12))


def _read(file: Keyfile, what: str, command: str) -> Keypair:
    path = Path(file.path)
    if not path.is_file():
        raise KeyFileMissing(what, path, command)
    try:
        if file.is_encrypted():
            # Asking for a password would stop a process that nobody watches.
            raise KeyFileUnusable(
                path, "it is protected by a password", "use a key without one (btcli's --no-password)"
            )
        return file.get_keypair()
    except (KeyfileError, ValueError, OSError) as error:
        remedy = "restore it from its mnemonic, see `btcli wallet --help`"
        raise KeyFileUnusable(path, str(error), remedy) from error
