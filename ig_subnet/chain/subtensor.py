"""The Chain protocol on a subtensor node, through the bittensor SDK."""

from __future__ import annotations

import asyncio
import ipaddress
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import bittensor as bt
from bittensor.keyfiles import Keypair

from ig_subnet.chain.commitments import commitment_info, readable_bytes
from ig_subnet.chain.connection import Connection
from ig_subnet.chain.errors import (
    ChainAnswerError,
    ChainUnavailable,
    InvalidAddress,
    InvalidWeights,
    SubnetNotFound,
    WalletError,
)
from ig_subnet.chain.interface import AxonEndpoint, Chain, Commitment, EpochTiming, MetagraphSnapshot, NeuronSnapshot
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
    WeightsRejected,
    WeightsSet,
    WeightsTooEarly,
    WeightsUnreachable,
)
from ig_subnet.chain.results import block_of, code_of, is_unconfirmed, reason_of, submit
from ig_subnet.chain.wallets import Wallet

T = TypeVar("T")
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
SubtensorModule = bt.storage.SubtensorModule

READ_SECONDS = 30.0  # the largest read, a metagraph of 256 neurons, takes 0.06 s from a node on this machine
SUBMIT_SECONDS = 120.0  # ten blocks of finney; inclusion and finality take a few
U16_MAX = 65535


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
        return await self._ask(lambda client: client.block())

    async def registered_uid(self, hotkey: str) -> int | None:
        _check_address(hotkey)
        uid = await self._ask(lambda client: client.query(SubtensorModule.Uids, [self.netuid, hotkey]))
        return None if uid is None else int(uid)

    async def metagraph(self) -> MetagraphSnapshot:
        async def read(client: bt.Client) -> tuple[Any, Any]:
            view = await client.at()
            return await asyncio.gather(
                view.subnets.metagraph(self.netuid, commitments=False),
                view.query(SubtensorModule.ValidatorTrust, [self.netuid]),
            )

        graph, validator_trust = await self._ask(read)
        if graph is None:
            raise SubnetNotFound(self.netuid, self._network)
        trusts = [int(value) / U16_MAX for value in validator_trust or []]
        trusts += [0.0] * (len(graph.neurons) - len(trusts))
        neurons = tuple(_neuron(neuron, trust) for neuron, trust in zip(graph.neurons, trusts, strict=False))
        return MetagraphSnapshot(netuid=self.netuid, block=graph.block, neurons=neurons)

    async def epoch_timing(self, uid: int | None) -> EpochTiming:
        async def read(client: bt.Client) -> tuple[Any, ...]:
            view = await client.at()
            return view.block, *await asyncio.gather(
                view.query(SubtensorModule.Tempo, [self.netuid]),
                view.read("next_epoch_start_block", netuid=self.netuid),
                view.query(SubtensorModule.LastEpochBlock, [self.netuid]),
                view.query(SubtensorModule.LastUpdate, [self.netuid]),
                view.query(SubtensorModule.WeightsSetRateLimit, [self.netuid]),
            )

        block, tempo, next_epoch, last_epoch, last_update, rate_limit = await self._ask(read)
        if not tempo or next_epoch is None:
            raise SubnetNotFound(self.netuid, self._network)
        known = uid is not None and uid < len(last_update or [])
        return EpochTiming(
            block=block,
            tempo=int(tempo),
            blocks_until_next_epoch=max(0, int(next_epoch) - block),
            last_epoch_block=int(last_epoch or 0),
            blocks_since_last_update=block - int(last_update[uid]) if known else None,
            weights_rate_limit=int(rate_limit or 0),
        )

    async def weights_on_chain(self) -> dict[int, dict[int, float]]:
        rows = await self._ask(lambda client: client.read("weights", netuid=self.netuid))
        return {uid: row for uid, row in rows.items() if row}

    async def commitment_of(self, hotkey: str) -> Commitment | None:
        _check_address(hotkey)
        found = await self._ask(lambda client: client.read("commitment", netuid=self.netuid, hotkey_ss58=hotkey))
        return None if found is None else Commitment(readable_bytes(found.fields), found.block)

    # --- Writes ---

    async def set_weights(self, weights: Mapping[int, float], version_key: int) -> WeightsOutcome:
        hotkey = self._signing_hotkey()
        checked = _checked_weights(weights)
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
        refusal = _foreseen_refusal(rules, set(weights), version_key, self.netuid)
        if refusal is not None:
            return refusal
        result = await self._submit(bt.SetWeights(netuid=self.netuid, weights=weights, version_key=version_key), hotkey)
        if result.success and "reveal_round" in result.data:
            return WeightsCommitted(rules.reveal_block, result.extrinsic_id)
        if result.success:
            return WeightsSet(block_of(result), result.extrinsic_id)
        error = result.error
        if is_unconfirmed(result):
            return WeightsUnreachable(result.message)
        if error.code is bt.ErrorCode.RATE_LIMITED:
            # Something else has set weights with this hotkey since the rules were read.
            return WeightsTooEarly(max(1, (await self._weights_rules(hotkey)).blocks_to_wait))
        not_authorized = (bt.ErrorCode.NOT_REGISTERED, bt.ErrorCode.NOT_AUTHORIZED)
        if error.code in not_authorized or error.name == "NotEnoughStakeToSetWeights":
            return WeightsNotPermitted(reason_of(error))
        return WeightsRejected(code_of(error), reason_of(error))

    async def _serve_axon(self, address: IPAddress, port: int, hotkey: Keypair) -> ServeOutcome:
        known, rate_limit, block = await self._ask(lambda client: _axon_rules(client, self.netuid, hotkey.ss58_address))
        if known and (int(known["ip"]), int(known["port"])) == (int(address), port):
            return AxonUnchanged()
        wait = int(known["block"]) + rate_limit - block if known and known["block"] else 0
        if wait > 0:
            return ServeTooEarly(wait)
        result = await self._submit(bt.ServeAxon(netuid=self.netuid, ip=str(address), port=port), hotkey)
        if result.success:
            return AxonServed(block_of(result), result.extrinsic_id)
        if is_unconfirmed(result):
            return ServeUnreachable(result.message)
        if result.error.code is bt.ErrorCode.NOT_REGISTERED:
            return ServeNotPermitted(reason_of(result.error))
        if result.error.code is bt.ErrorCode.RATE_LIMITED:
            return ServeTooEarly(max(1, rate_limit))
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

    async def _weights_rules(self, hotkey: Keypair) -> _WeightsRules:
        return await self._ask(lambda client: _weights_rules(client, self.netuid, hotkey.ss58_address))

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


def _neuron(neuron: bt.MetagraphNeuron, validator_trust: float) -> NeuronSnapshot:
    return NeuronSnapshot(
        uid=neuron.uid,
        hotkey=neuron.hotkey,
        coldkey=neuron.coldkey,
        stake=float(neuron.total_stake.amount),
        validator_permit=neuron.validator_permit,
        active=neuron.active,
        last_update=neuron.last_update,
        registered_at=neuron.block_at_registration,
        axon=_endpoint(neuron.axon),
        incentive=neuron.incentive,
        dividends=neuron.dividends,
        emission=float(neuron.emission.amount),
        consensus=neuron.consensus,
        trust=neuron.trust,
        validator_trust=validator_trust,
    )


def _endpoint(axon: str | None) -> AxonEndpoint | None:
    """From the SDK's "1.2.3.4:8091" or "[::1]:8091"."""
    if axon is None:
        return None
    ip, _, port = axon.rpartition(":")
    return AxonEndpoint(ip=ip.strip("[]"), port=int(port))


# --- Weights ---


@dataclass(frozen=True)
class _WeightsRules:
    """What decides, at one block, whether this hotkey may set weights now."""

    uid: int | None
    permitted: bool
    blocks_to_wait: int
    version_key: int
    reveal_block: int


async def _weights_rules(client: bt.Client, netuid: int, hotkey: str) -> _WeightsRules:
    view = await client.at()
    uid, permits, owner, last_update, rate_limit, version_key, tempo, period, next_epoch = await asyncio.gather(
        view.query(SubtensorModule.Uids, [netuid, hotkey]),
        view.query(SubtensorModule.ValidatorPermit, [netuid]),
        view.query(SubtensorModule.SubnetOwnerHotkey, [netuid]),
        view.query(SubtensorModule.LastUpdate, [netuid]),
        view.query(SubtensorModule.WeightsSetRateLimit, [netuid]),
        view.query(SubtensorModule.WeightsVersionKey, [netuid]),
        view.query(SubtensorModule.Tempo, [netuid]),
        view.query(SubtensorModule.RevealPeriodEpochs, [netuid]),
        view.read("next_epoch_start_block", netuid=netuid),
    )
    last = int(last_update[uid]) if uid is not None and uid < len(last_update or []) else 0
    return _WeightsRules(
        uid=uid,
        permitted=uid is not None and (owner == hotkey or bool(permits and uid < len(permits) and permits[uid])),
        blocks_to_wait=max(0, last + int(rate_limit or 0) - view.block) if last else 0,
        version_key=int(version_key or 0),
        # A commit of this epoch is revealed when the epoch `period` later begins.
        reveal_block=int(next_epoch or view.block) + (int(period or 1) - 1) * int(tempo or 0),
    )


def _checked_weights(weights: Mapping[int, float]) -> dict[int, float]:
    for uid, weight in weights.items():
        if not 0 <= uid <= U16_MAX:
            raise InvalidWeights(f"uid {uid} is not a uid: pass 0 to {U16_MAX}")
        if not math.isfinite(weight) or weight < 0:
            raise InvalidWeights(f"the weight of uid {uid} is {weight}: pass finite numbers that are not negative")
    checked = {int(uid): float(weight) for uid, weight in weights.items() if weight > 0}
    if not checked:
        raise InvalidWeights("no weight is above zero: there is nothing to set")
    return checked


def _foreseen_refusal(rules: _WeightsRules, weighted: set[int], version_key: int, netuid: int) -> WeightsOutcome | None:
    """The refusals that the SDK does not foresee, or not with a number.

    A commit with a stale version or without a permit would be accepted, and dropped in silence when it is revealed.
    """
    if rules.uid is None:
        return WeightsNotPermitted(
            f"this hotkey is not registered on subnet {netuid}; register it with `btcli subnets register`"
        )
    if version_key < rules.version_key:
        return WeightsRejected(
            "IncorrectWeightVersionKey",
            f"the subnet requires version {rules.version_key}, this is {version_key}; update this software",
        )
    if rules.blocks_to_wait:
        return WeightsTooEarly(rules.blocks_to_wait)
    if not rules.permitted and weighted != {rules.uid}:
        return WeightsNotPermitted(
            f"uid {rules.uid} holds no validator permit on subnet {netuid}; stake more, permits are given at each epoch"
        )
    return None


# --- Serving ---


async def _axon_rules(client: bt.Client, netuid: int, hotkey: str) -> tuple[dict[str, Any] | None, int, int]:
    """The endpoint on the chain, the serving rate limit, and the block they were read at."""
    view = await client.at()
    known, rate_limit = await asyncio.gather(
        view.query(SubtensorModule.Axons, [netuid, hotkey]), view.query(SubtensorModule.ServingRateLimit, [netuid])
    )
    return known, int(rate_limit or 0), view.block
