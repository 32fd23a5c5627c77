"""Settings that both neurons have: the chain, the wallet, the address, the log; and the types that settings are of."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

NETWORKS = ("finney", "test", "archive", "devnet", "local")  # the names that bittensor 11.3.0 resolves


def _plain_name(value: str) -> str:
    if not value or value in (".", "..") or any(character in value for character in "/\\\0"):
        raise ValueError("must be one plain name (it becomes a folder), without slashes")
    return value


def _network(value: str) -> str:
    if value not in NETWORKS and not value.startswith(("ws://", "wss://")):
        raise ValueError(f"must be one of {', '.join(NETWORKS)} or a ws:// or wss:// address")
    return value


def _endpoint(value: str) -> str:
    if not value.startswith(("ws://", "wss://")):
        raise ValueError("must be a ws:// or wss:// address")
    return value


def _is_on_own_network(endpoint: str) -> bool:
    """Whether a ws:// address is localhost or an address that only one's own network knows; no name is looked up."""
    try:
        host = urlsplit(endpoint).hostname
        return host == "localhost" or ipaddress.ip_address(host or "").is_private
    except ValueError:
        return False


def _ip_address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError("must be an IPv4 or IPv6 address") from None


def _hotkey(value: str) -> str:
    if not re.fullmatch(r"[1-9A-HJ-NP-Za-km-z]{48}", value):
        raise ValueError("must be an ss58 address (48 characters)")
    return value


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
        raise ValueError("must be auto, cpu, cuda or cuda:N")
    return value


def _user_path(value: Path) -> Path:
    try:
        return value.expanduser()
    except RuntimeError:
        raise ValueError("begins with ~ and an unknown user") from None


PlainName = Annotated[str, AfterValidator(_plain_name)]
IpAddress = Annotated[str, AfterValidator(_ip_address)]
Port = Annotated[int, Field(ge=1, le=65535)]
UserPath = Annotated[Path, AfterValidator(_user_path)]
Hotkey = Annotated[str, AfterValidator(_hotkey)]
Device = Annotated[str, AfterValidator(_device)]
Scheduler = Literal["ddim", "ddpm", "pndm", "lms", "euler", "euler_a", "heun", "dpm++", "unipc"]
Dtype = Literal["auto", "float32", "float16", "bfloat16"]  # auto: float32 on a CPU, float16 on CUDA
Offload = Literal["none", "model", "sequential"]


class Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SubtensorSettings(Group):
    """The chain."""

    network: Annotated[str, AfterValidator(_network)] = Field(
        default="finney",
        description="finney, test, archive, devnet, local, or a ws:// address. local allows private axon addresses",
    )
    chain_endpoint: Annotated[str, AfterValidator(_endpoint)] | None = Field(
        default=None, description="ws:// address of the node; unset, the network's own"
    )

    @property
    def target(self) -> str:
        """What to connect to: the endpoint if one is given, else the network."""
        return self.chain_endpoint or self.network

    @property
    def is_local(self) -> bool:
        """Whether this is a chain on one's own machines, where private and loopback addresses are fine.

        `local` with the endpoint of a node elsewhere is not: what is forbidden on the network of others stays so.
        """
        return self.network == "local" and (self.chain_endpoint is None or _is_on_own_network(self.chain_endpoint))


class WalletSettings(Group):
    """The wallet; only its coldkeypub and hotkey files are read."""

    name: PlainName = Field(default="default", description="name of the coldkey")
    hotkey: PlainName = Field(default="default", description="name of the hotkey")
    path: UserPath = Field(
        default=Path("~/.bittensor/wallets"), description="folder that holds the wallets", validate_default=True
    )


class AxonSettings(Group):
    """Where an HTTP server of this neuron listens, and what the chain says of it."""

    ip: IpAddress = Field(default="0.0.0.0", description="address to listen on; 127.0.0.1 for this machine only")
    external_ip: IpAddress | None = Field(
        default=None, description="address to publish on the chain; required except on the local network"
    )
    external_port: Port | None = Field(
        default=None, description="port to publish on the chain; unset, the one listened on"
    )

    @property
    def published_ip(self) -> str:
        """The address that goes on the chain; without an external one, this machine's own."""
        wildcard = ipaddress.ip_address(self.ip).is_unspecified
        return self.external_ip or ("127.0.0.1" if wildcard else self.ip)

    def check_address(self, subtensor: SubtensorSettings, callers: str) -> None:
        """Raises ValueError unless `callers` ("validators") can reach what is published on that chain."""
        address = ipaddress.ip_address(self.external_ip) if self.external_ip else None
        if address and (address.is_unspecified or address.is_multicast):
            raise ValueError(f"--axon.external_ip: {address} is no address that anyone can reach")
        if subtensor.is_local:
            return
        if not address:
            raise ValueError(
                "--axon.external_ip is required on --subtensor.network "
                f"{subtensor.target}: give the public address at which {callers} reach this machine"
            )
        if not address.is_global:
            raise ValueError(
                f"--axon.external_ip: {address} is private, {callers} will not call it; give a public address "
                "(or --subtensor.network local for a chain of your own)"
            )


class MinerAxonSettings(AxonSettings):
    """The HTTP server that validators query."""

    port: int = Field(default=8091, ge=0, le=65535, description="port to listen on; 0 takes any that is free")
    nonce_store: UserPath | None = Field(
        default=None,
        description="file in which several processes of this hotkey share what they accepted; unset, memory",
    )
    trusted_proxy: tuple[IpAddress, ...] = Field(
        default=(),
        description="address of a proxy of one's own, whose X-Forwarded-For says who calls; may be repeated",
    )


class ValidatorAxonSettings(AxonSettings):
    """The HTTP server that tells miners what is on record of them."""

    port: int | None = Field(
        default=None, ge=0, le=65535, description="port to listen on; unset, nothing is served; 0 takes any free one"
    )


class LoggingSettings(Group):
    """What is written to standard error."""

    debug: bool = Field(default=False, description="log details")
    trace: bool = Field(default=False, description="log everything, requests included")

    @property
    def level(self) -> Literal["TRACE", "DEBUG", "INFO"]:
        """The loguru level."""
        return "TRACE" if self.trace else "DEBUG" if self.debug else "INFO"
