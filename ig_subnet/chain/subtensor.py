"""The Chain protocol on a subtensor node, through the bittensor SDK."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import bittensor as bt
from bittensor.keyfiles import Keypair

from ig_subnet.chain.commitments import commitment_info
from ig_subnet.chain.connection import Connection
from ig_subnet.chain.errors import ChainAnswerError, ChainUnavailable, InvalidAddress, SubnetNotFound, WalletError
from ig_subnet.chain.interface import Chain, Commitment, EpochTiming, MetagraphSnapshot
from ig_subnet.chain.outcomes import (
    AxonServed,
    AxonUnchanged,
    CommitmentNotPermitted,
    CommitmentOutcome,
    CommitmentPublished,
    CommitmentRejected,
    CommitmentTooEarly,
    CommitmentUnchanged,
    CommitmentUnreachable,
    ServeNotPermitted,
    ServeOutcome,
    ServeRejected,
    ServeTooEarly,
    ServeUnreachable,
    WeightsCommitted,
    WeightsNotPermitted,
    WeightsOutcome,
    WeightsOutdated,
    WeightsRejected,
    WeightsSet,
    WeightsTooEarly,
    WeightsUnreachable,
)
from ig_subnet.chain.readings import (
    U16_MAX,
    SubtensorModule,
    read_commitment,
    read_epoch_timing,
    read_metagraph,
    read_sealed_weights,
    read_uid,
    read_weights,
)
from ig_subnet.chain.results import block_of, code_of, is_unconfirmed, reason_of, submit
from ig_subnet.chain.wallets import Wallet
from ig_subnet.chain.weights import WeightsRules, checked_weights, foreseen_refusal, read_weights_rules

T = TypeVar("T")
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

READ_SECONDS = 30.0  # the largest read, a metagraph of 256 neurons, takes 0.06 s from a node on this machine
SUBMIT_SECONDS = 120.0  # ten blocks of finney; inclusion and finality take a few


@asynccontextmanager
async def open_chain(
    network_or_endpoint: str,
    netuid: int,
    wallet: Wallet | None,
    *,
    timeout_seconds: float = READ_SECONDS,
    submit_seconds: float = SUBMIT_SECONDS,
) -> AsyncIterator[Chain]:
    """A Chain for one subnet; without a wallet it only reads.

    Connects with the first call, so the node need not be up yet. A read takes at most `timeout_seconds`, from the
    submission of an extrinsic to its finality at most `submit_seconds`. Raises UnknownNetwork.
    """
    chain = SubtensorChain(
        network_or_endpoint, netuid, wallet, timeout_seconds=timeout_seconds, submit_seconds=submit_seconds
    )
    try:
        yield chain
    finally:
        await chain.close()


class SubtensorChain:
    """See the Chain protocol for what each call returns and raises."""

    def __init__(
        self, network: str, netuid: int, wallet: Wallet | None, *, timeout_seconds: float, submit_seconds: float
    ) -> None:
        self.netuid = netuid
        self._network = network
        self._wallet = wallet
        self._seconds = timeout_seconds
        self._submit_seconds = submit_seconds
        self._connection = Connection(network)
        self._submitting = asyncio.Lock()  # one extrinsic at a time: two would race for the hotkey's nonce

    async def close(self) -> None:
        await self._connection.close()

    # --- Reads ---

    async def block_number(self) -> int:
        return int(await self._ask(lambda client: client.block()))

    async def registered_uid(self, hotkey: str) -> int | None:
        _check_address(hotkey)
        return await self._ask(lambda client: read_uid(client, self.netuid, hotkey))

    async def metagraph(self) -> MetagraphSnapshot:
        snapshot = await self._ask(lambda client: read_metagraph(client, self.netuid))
        if snapshot is None:
            raise SubnetNotFound(self.netuid, self._network)
        return snapshot

    async def epoch_timing(self, uid: int | None) -> EpochTiming:
        timing = await self._ask(lambda client: read_epoch_timing(client, self.netuid, uid))
        if timing is None:
            raise SubnetNotFound(self.netuid, self._network)
        return timing

    async def weights_on_chain(self) -> dict[int, dict[int, float]]:
        return await self._ask(lambda client: read_weights(client, self.netuid))

    async def sealed_weights(self, hotkey: str) -> int | None:
        _check_address(hotkey)
        sealed = await self._ask(lambda client: read_sealed_weights(client, self.netuid, hotkey))
        return max(sealed.values(), default=None)

    async def commitment_of(self, hotkey: str) -> Commitment | None:
        _check_address(hotkey)
        return await self._ask(lambda client: read_commitment(client, self.netuid, hotkey))

    # --- Writes ---

    async def set_weights(self, weights: Mapping[int, float], version_key: int) -> WeightsOutcome:
        hotkey = self._signing_hotkey()
        checked = checked_weights(weights)
        try:
            async with self._submitting:
                return await self._set_weights(checked, version_key, hotkey)
        except (ChainUnavailable, ChainAnswerError) as error:
            return WeightsUnreachable(str(error))

    async def serve_axon(self, ip: str, port: int) -> ServeOutcome:
        hotkey = self._signing_hotkey()
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:
            return ServeRejected("InvalidIpAddress", f"{ip!r} is not an IP address; pass one with --axon.external_ip")
        if not 0 < port <= U16_MAX:
            return ServeRejected("InvalidPort", f"{port} is not a TCP port; pass 1 to 65535 with --axon.external_port")
        try:
            async with self._submitting:
                return await self._serve_axon(address, port, hotkey)
        except (ChainUnavailable, ChainAnswerError) as error:
            return ServeUnreachable(str(error))

    async def publish_commitment(self, data: bytes) -> CommitmentOutcome:
        hotkey = self._signing_hotkey()
        call = bt.calls.Commitments.set_commitment(netuid=self.netuid, info=commitment_info(data))
        try:
            async with self._submitting:
                known = await self.commitment_of(hotkey.ss58_address)
                if known is not None and known.data == data:
                    return CommitmentUnchanged(known.block)
                return await self._publish_commitment(call, hotkey)
        except (ChainUnavailable, ChainAnswerError) as error:
            return CommitmentUnreachable(str(error))

    async def _set_weights(self, weights: dict[int, float], version_key: int, hotkey: Keypair) -> WeightsOutcome:
        rules = await self._weights_rules(hotkey)
        refusal = foreseen_refusal(rules, set(weights), version_key, self.netuid)
        if refusal is not None:
            return refusal
        result = await self._submit(bt.SetWeights(netuid=self.netuid, weights=weights, version_key=version_key), hotkey)
        if result.success and "reveal_round" in result.data:
            return WeightsCommitted(rules.reveal_block(block_of(result)), result.extrinsic_id)
        if result.success:
            return WeightsSet(block_of(result), result.extrinsic_id)
        error = result.error
        if is_unconfirmed(result):
            return WeightsUnreachable(result.message)
        if error.code is bt.ErrorCode.RATE_LIMITED:
            # Something else has set weights with this hotkey since the rules were read.
            return WeightsTooEarly(max(1, (await self._weights_rules(hotkey)).blocks_to_wait))
        if error.name == "IncorrectWeightVersionKey":  # raised since
            return WeightsOutdated((await self._weights_rules(hotkey)).version_key, version_key)
        not_authorized = (bt.ErrorCode.NOT_REGISTERED, bt.ErrorCode.NOT_AUTHORIZED)
        if error.code in not_authorized or error.name == "NotEnoughStakeToSetWeights":
            return WeightsNotPermitted(reason_of(error))
        return WeightsRejected(code_of(error), reason_of(error))

    async def _serve_axon(self, address: IPAddress, port: int, hotkey: Keypair) -> ServeOutcome:
        rules = await self._ask(lambda client: _axon_rules(client, self.netuid, hotkey.ss58_address))
        if rules.published == (int(address), port):
            return AxonUnchanged()
        if rules.blocks_to_wait:
            return ServeTooEarly(rules.blocks_to_wait)
        result = await self._submit(bt.ServeAxon(netuid=self.netuid, ip=str(address), port=port), hotkey)
        if result.success:
            return AxonServed(block_of(result), result.extrinsic_id)
        if is_unconfirmed(result):
            return ServeUnreachable(result.message)
        if result.error.code is bt.ErrorCode.NOT_REGISTERED:
            return ServeNotPermitted(reason_of(result.error))
        if result.error.code is bt.ErrorCode.RATE_LIMITED:
            return ServeTooEarly(max(1, rules.rate_limit))
        return ServeRejected(code_of(result.error), reason_of(result.error))

    async def _publish_commitment(self, call: bt.calls.Call, hotkey: Keypair) -> CommitmentOutcome:
        result = await self._submit(call, hotkey)
        if result.success:
            return CommitmentPublished(block_of(result), result.extrinsic_id)
        if is_unconfirmed(result):
            return CommitmentUnreachable(result.message)
        if result.error.name == "AccountNotAllowedCommit":
            return CommitmentNotPermitted(reason_of(result.error))
        if result.error.name == "SpaceLimitExceeded":
            return CommitmentTooEarly(max(1, (await self.epoch_timing(None)).blocks_until_next_epoch))
        return CommitmentRejected(code_of(result.error), reason_of(result.error))

    # --- Underneath ---

    def _signing_hotkey(self) -> Keypair:
        if self._wallet is None:
            raise WalletError("this chain was opened without a wallet and only reads: pass one to open_chain")
        return self._wallet.hotkey

    async def _weights_rules(self, hotkey: Keypair) -> WeightsRules:
        return await self._ask(lambda client: read_weights_rules(client, self.netuid, hotkey.ss58_address))

    async def _ask(self, operation: Callable[[bt.Client], Awaitable[T]]) -> T:
        return await self._connection.ask(operation, self._seconds)

    async def _submit(self, request: bt.Intent | bt.calls.Call, hotkey: Keypair) -> bt.ExtrinsicResult:
        return await self._connection.ask(lambda client: submit(client, request, hotkey), self._submit_seconds)


def _check_address(address: str) -> None:
    """Raises InvalidAddress before the SDK's own error would look like one of the node's."""
    try:
        Keypair(ss58_address=address)
    except ValueError as error:
        raise InvalidAddress(address, str(error)) from error


# --- Serving ---


@dataclass(frozen=True)
class _AxonRules:
    """The endpoint on the chain, as numbers, and when it may be changed."""

    published: tuple[int, int] | None
    rate_limit: int
    blocks_to_wait: int


async def _axon_rules(client: bt.Client, netuid: int, hotkey: str) -> _AxonRules:
    view = await client.at()
    known, limit = await asyncio.gather(
        view.query(SubtensorModule.Axons, [netuid, hotkey]), view.query(SubtensorModule.ServingRateLimit, [netuid])
    )
    rate_limit, changed = int(limit or 0), int(known["block"]) if known else 0
    return _AxonRules(
        published=(int(known["ip"]), int(known["port"])) if known else None,
        rate_limit=rate_limit,
        blocks_to_wait=max(0, changed + rate_limit - view.block) if changed else 0,
    )
