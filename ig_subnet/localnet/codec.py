"""The runtime's types: metadata, storage keys, values, events and runtime API results as SCALE bytes.

All encoding is done by `bittensor_core` from the real runtime's metadata (data/NOTICE says where it comes from), so
what this node serves decodes on a client exactly as finney's answers do.
"""

from __future__ import annotations

import lzma
import re
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from importlib import resources
from typing import Any

import bittensor_core

SS58_FORMAT = 42
METADATA_FILE = "subtensor_metadata_v461.scale.xz"
METADATA_V15 = 15
HEX = re.compile("0x(?:[0-9a-f]{2})+")  # as the codec writes bytes
U64_TYPE_ID = 7  # of this metadata's type registry


def blake2_256(data: bytes) -> bytes:
    """The 32-byte hash Substrate uses for blocks, extrinsics and calls."""
    return blake2b(data, digest_size=32).digest()


def compact(value: int) -> bytes:
    """SCALE compact encoding of a non-negative integer below 2**30."""
    if value < 1 << 6:
        return bytes([value << 2])
    if value < 1 << 14:
        return (value << 2 | 1).to_bytes(2, "little")
    if value < 1 << 30:
        return (value << 2 | 2).to_bytes(4, "little")
    raise ValueError(f"{value} is too large for a length")


def as_bytes(value: str | bytes) -> bytes:
    """The bytes of a Vec<u8> that the codec decoded: to text where they are UTF-8, else to 0x-hex.

    A text that spells bytes which are not UTF-8, in 0x-hex, cannot be told from these bytes, and is taken for them.
    """
    if isinstance(value, bytes):
        return value
    if HEX.fullmatch(value):
        spelled = bytes.fromhex(value[2:])
        try:
            spelled.decode()
        except UnicodeDecodeError:
            return spelled
    return value.encode()


def load_metadata(slot_milliseconds: int) -> bytes:
    """The runtime's metadata (V15), with the block time this chain keeps.

    Clients pace their waits by the constant Aura.SlotDuration, so it has to tell the truth about this chain.
    """
    packed = resources.files("ig_subnet.localnet").joinpath("data", METADATA_FILE).read_bytes()
    metadata = lzma.decompress(packed)
    metadata = _with_u64_constant(metadata, "SlotDuration", slot_milliseconds)
    return _with_u64_constant(metadata, "MinimumPeriod", slot_milliseconds // 2)


def _with_u64_constant(metadata: bytes, name: str, value: int) -> bytes:
    """Metadata in which a u64 constant has another value. It is found by its record: name, type id of u64, length 8."""
    record = compact(len(name)) + name.encode() + compact(U64_TYPE_ID) + compact(8)
    if metadata.count(record) != 1:
        raise ValueError(f"the metadata has no single u64 constant {name}")
    start = metadata.index(record) + len(record)
    return metadata[:start] + value.to_bytes(8, "little") + metadata[start + 8 :]


@dataclass(frozen=True)
class StorageItem:
    """One storage item: its value's type, and what a read of an absent key yields (None where the item is optional)."""

    pallet: str
    name: str
    value_type: str
    default: bytes | None
    keys: int


class Codec:
    """Encode and decode everything that one runtime defines. Values are plain Python: ints, strings, lists, dicts.

    Accounts are SS58 strings. Storage items are named "Tempo" (pallet SubtensorModule) or "System.Account".
    """

    def __init__(self, metadata: bytes):
        self.metadata = metadata
        self.version: dict[str, Any] = bittensor_core.Runtime(metadata, 0, 0, SS58_FORMAT).constant("System", "Version")
        self.spec_version: int = self.version["spec_version"]
        self.transaction_version: int = self.version["transaction_version"]
        self.runtime = bittensor_core.Runtime(metadata, self.spec_version, self.transaction_version, SS58_FORMAT)
        self._items: dict[str, StorageItem] = {}
        self._apis: dict[str, dict[str, Any]] = self.runtime.runtime_api_map()

    # Storage

    def item(self, name: str) -> StorageItem:
        """The storage item of that name; KeyError if the runtime has none."""
        found = self._items.get(name)
        if found is None:
            pallet, _, item = name.rpartition(".")
            entry = self.runtime.storage_entry(pallet or "SubtensorModule", item)
            default = bytes(entry.default_bytes) if entry.modifier == "Default" else None
            found = StorageItem(entry.pallet, entry.name, entry.value_type, default, len(entry.param_types))
            self._items[name] = found
        return found

    def key(self, name: str, *params: Any) -> bytes:
        """The raw storage key; with fewer params than the map has, the prefix of all keys that share them."""
        item = self.item(name)
        return bytes(self.runtime.storage_key(item.pallet, item.name, list(params)))

    def key_params(self, name: str, key: bytes, fixed: int) -> tuple[Any, ...]:
        """The map keys within a raw storage key, without the first `fixed` ones."""
        item = self.item(name)
        return tuple(self.runtime.decode_storage_key_params(item.pallet, item.name, key, fixed))

    def encode_value(self, name: str, value: Any) -> bytes:
        return bytes(self.runtime.encode(self.item(name).value_type, value))

    def decode_value(self, name: str, raw: bytes | None) -> Any:
        """The value in these bytes; for None, the item's default, or None where it has none."""
        item = self.item(name)
        raw = item.default if raw is None else raw
        return None if raw is None else self.runtime.decode(item.value_type, raw)

    # Calls, errors, runtime APIs

    def compose_call(self, pallet: str, function: str, arguments: dict[str, Any]) -> bytes:
        return bytes(self.runtime.compose_call(pallet, function, arguments))

    @cached_property
    def module_errors(self) -> dict[tuple[str, str], dict[str, Any]]:
        """(pallet, error name) -> the value of DispatchError::Module."""
        return {
            (pallet["name"], error["name"]): {"index": pallet["index"], "error": f"0x{error['index']:02x}000000"}
            for pallet in self.runtime.metadata_ir()["pallets"]
            for error in pallet["errors"]
        }

    def api_parameters(self, api: str, method: str, data: bytes) -> list[Any]:
        """Decode the parameters of a runtime API call; KeyError for an unknown one, ValueError for bad bytes."""
        inputs = self._apis[api][method]["inputs"]
        values: list[Any] = []
        for _name, type_string in inputs:
            value = self.runtime.decode(type_string, data, False)
            data = data[len(self.runtime.encode(type_string, value)) :]
            values.append(value)
        if data:
            raise ValueError(f"{len(data)} bytes left over after the parameters of {api}_{method}")
        return values

    def encode_api_result(self, api: str, method: str, value: Any) -> bytes:
        return bytes(self.runtime.encode(self._apis[api][method]["output"], value))

    def opaque_metadata(self) -> bytes:
        """The metadata as the runtime API returns it: Option<OpaqueMetadata>."""
        return b"\x01" + compact(len(self.metadata)) + self.metadata
