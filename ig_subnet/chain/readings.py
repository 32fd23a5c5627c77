"""What is read of a subnet, turned into what the neurons know of a chain.

Each of these runs inside `Connection.ask`: an answer that makes no sense is the node's error then, whatever it breaks.
"""

from __future__ import annotations

import asyncio
from typing import Any

import bittensor as bt

from ig_subnet.chain.commitments import readable_bytes
from ig_subnet.chain.interface import AxonEndpoint, Commitment, EpochTiming, MetagraphSnapshot, NeuronSnapshot

SubtensorModule = bt.storage.SubtensorModule
U16_MAX = 65535


async def read_uid(client: bt.Client, netuid: int, hotkey: str) -> int | None:
    """The hotkey's uid, if it has one."""
    uid = await client.query(SubtensorModule.Uids, [netuid, hotkey])
    return None if uid is None else int(uid)


async def read_metagraph(client: bt.Client, netuid: int) -> MetagraphSnapshot | None:
    """All neurons at the newest block; None where there is no such subnet."""
    view = await client.at()
    graph, validator_trust = await asyncio.gather(
        view.subnets.metagraph(netuid, commitments=False), view.query(SubtensorModule.ValidatorTrust, [netuid])
    )
    if graph is None:
        return None
    trusts = [int(value) / U16_MAX for value in validator_trust or []]
    trusts += [0.0] * (len(graph.neurons) - len(trusts))
    neurons = tuple(_neuron(neuron, trust) for neuron, trust in zip(graph.neurons, trusts, strict=False))
    if [neuron.uid for neuron in neurons] != list(range(len(neurons))):
        raise ValueError("the metagraph's uids do not count from 0")
    return MetagraphSnapshot(netuid, int(graph.block), neurons, graph.owner_hotkey)


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


async def read_epoch_timing(client: bt.Client, netuid: int, uid: int | None) -> EpochTiming | None:
    """The epoch's clock at the newest block; None where there is no such subnet, or it never runs epochs."""
    view = await client.at()
    tempo, next_epoch, last_epoch, last_update, rate_limit, commits, period = await asyncio.gather(
        view.query(SubtensorModule.Tempo, [netuid]),
        view.read("next_epoch_start_block", netuid=netuid),
        view.query(SubtensorModule.LastEpochBlock, [netuid]),
        view.query(SubtensorModule.LastUpdate, [netuid]),
        view.query(SubtensorModule.WeightsSetRateLimit, [netuid]),
        view.query(SubtensorModule.CommitRevealWeightsEnabled, [netuid]),
        view.query(SubtensorModule.RevealPeriodEpochs, [netuid]),
    )
    if not tempo or next_epoch is None:
        return None
    known = uid is not None and uid < len(last_update or [])
    return EpochTiming(
        block=view.block,
        tempo=int(tempo),
        blocks_until_next_epoch=max(0, int(next_epoch) - view.block),
        last_epoch_block=int(last_epoch or 0),
        blocks_since_last_update=view.block - int(last_update[uid]) if known else None,
        weights_rate_limit=int(rate_limit or 0),
        reveal_epochs=int(period or 1) if commits else 0,
    )


async def read_weights(client: bt.Client, netuid: int) -> dict[int, dict[int, float]]:
    """Validator uid -> {miner uid: share}, without validators that have set none."""
    rows = await client.read("weights", netuid=netuid)
    return {int(uid): row for uid, row in rows.items() if row}


async def read_sealed_weights(view: Any, netuid: int, hotkey: str) -> dict[int, int]:
    """Epoch -> block of every commit of the hotkey that is not opened yet; `view` is a client or a snapshot of it."""
    epochs = await view.read("timelocked_weight_commits", netuid=netuid)
    return {
        int(epoch): int(commit["commit_block"])
        for epoch, commits in epochs.items()
        for commit in commits
        if commit["hotkey"] == hotkey
    }


async def read_commitment(client: bt.Client, netuid: int, hotkey: str) -> Commitment | None:
    """What the hotkey has committed on the subnet, if anything."""
    found = await client.read("commitment", netuid=netuid, hotkey_ss58=hotkey)
    return None if found is None else Commitment(readable_bytes(found.fields), found.block)
