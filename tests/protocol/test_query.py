"""A validator asks, a miner answers: real HTTP on loopback, real keys on both sides."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from bittensor.keyfiles import Keypair
from wire_peers import PATIENCE_SECONDS, Keys, Serve, paint
from yarl import URL

from ig_subnet.chain.auth import BtAuthVerifier, KeypairSigner
from protocol import (
    Axon,
    Busy,
    Dendrite,
    GeneratedImage,
    Limits,
    ListenError,
    QueryStatus,
    Refusal,
    Target,
    TextToImageSynapse,
    Unsupported,
)
from protocol.signing import HEADER_RESPONSE_SIGNATURE

Where = Callable[[int], Target]


class Gate:
    """A handler that waits until it is let through, and remembers how each call ended."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.entered = asyncio.Semaphore(0)
        self.left = asyncio.Semaphore(0)
        self.callers: list[str] = []
        self.cancelled = 0

    async def __call__(self, synapse: TextToImageSynapse, caller: str) -> list[GeneratedImage]:
        self.callers.append(caller)
        self.entered.release()
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.left.release()
        return await paint(synapse, caller)


async def test_answered(
    serve: Serve, dendrite: Dendrite, target: Where, synapse: TextToImageSynapse, keys: Keys
) -> None:
    seen: list[tuple[TextToImageSynapse, str]] = []

    async def handler(asked: TextToImageSynapse, caller: str) -> list[GeneratedImage]:
        seen.append((asked, caller))
        return await paint(asked, caller)

    async with serve(handler) as axon:
        for _ in range(3):  # over one kept connection
            result = await dendrite.query(target(axon.port), synapse)
            assert result.status is QueryStatus.ANSWERED, result.detail
    assert result.target == target(axon.port)
    assert [(image.seed, image.data) for image in result.images] == [(7, b"7"), (8, b"8")]
    assert 0 < result.elapsed_seconds < synapse.deadline_seconds
    assert seen == [(synapse, keys.validator.hotkey)] * 3


async def test_large_images_are_framed_and_checked_off_the_loop(
    serve: Serve, dendrite: Dendrite, target: Where, synapse: TextToImageSynapse
) -> None:
    large = synapse.model_copy(update={"width": 1024, "height": 1024})
    data = bytes(range(256)) * 8192

    async def handler(asked: TextToImageSynapse, _: str) -> list[GeneratedImage]:
        return [GeneratedImage("webp", 1024, 1024, asked.seed_of(i), "m", data) for i in range(2)]

    async with serve(handler) as axon:
        result = await dendrite.query(target(axon.port), large)
    assert result.status is QueryStatus.ANSWERED
    assert [image.data == data for image in result.images] == [True, True]


async def test_through_a_proxy_that_writes_everything_anew(
    serve: Serve, dendrite: Dendrite, target: Where, synapse: TextToImageSynapse
) -> None:
    """As nginx does: another connection, other headers beside ours, and the caller's address in one of them."""
    seen: list[str] = []

    async def forward(request: web.Request) -> web.Response:
        seen.append(request.remote or "")
        headers = {name: value for name, value in request.headers.items() if name not in ("Host", "Content-Length")}
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            url = URL(f"http://127.0.0.1:{axon.port}{request.raw_path}", encoded=True)
            forwarded = headers | {"X-Forwarded-For": request.remote or "", "Via": "1.1 proxy"}
            async with session.post(url, data=await request.read(), headers=forwarded) as answer:
                signed = {HEADER_RESPONSE_SIGNATURE: answer.headers.get(HEADER_RESPONSE_SIGNATURE, "")}
                return web.Response(body=await answer.read(), status=answer.status, headers=signed)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", forward)
    proxy = web.AppRunner(application)
    await proxy.setup()
    try:
        site = web.TCPSite(proxy, "127.0.0.1", 0)
        await site.start()
        limits = Limits(address_seconds=3600, address_at_once=2)
        async with serve(trusted_proxies=["127.0.0.1"], limits=limits) as axon:
            at = target(int(site.name.rpartition(":")[2]))
            results = [await dendrite.query(at, synapse) for _ in range(3)]
    finally:
        await proxy.cleanup()
    assert [result.status for result in results[:2]] == [QueryStatus.ANSWERED] * 2
    assert results[2].status is not QueryStatus.ANSWERED  # the caller's address has had its two
    assert seen == ["127.0.0.1"] * 3


async def test_ipv6(serve: Serve, dendrite: Dendrite, keys: Keys, synapse: TextToImageSynapse) -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        async with serve(host="::1") as axon:
            result = await dendrite.query(Target(keys.miner.hotkey, "::1", axon.port), synapse)
    except ListenError:
        pytest.skip("this machine has no IPv6 loopback")
    assert result.status is QueryStatus.ANSWERED


async def test_sixty_four_miners_at_once(keys: Keys, synapse: TextToImageSynapse) -> None:
    signers = [KeypairSigner(Keypair.create_from_uri(f"//Miner{i}")) for i in range(64)]
    axons = [
        Axon(paint, signer, BtAuthVerifier(signer.hotkey), host="127.0.0.1", port=0, policy=lambda _: None)
        for signer in signers
    ]
    async with asyncio.TaskGroup() as group:
        for axon in axons:
            group.create_task(axon.serve())
        async with asyncio.timeout(PATIENCE_SECONDS):
            for axon in axons:
                await axon.started.wait()
        # Fewer turns than queries: the rest waits for a turn, not for a deadline.
        limits = Limits(max_queries=40)
        verifier = BtAuthVerifier(keys.validator.hotkey)
        async with Dendrite(keys.validator, verifier, limits=limits, allow_private=True) as dendrite:
            for round_number in range(2):
                asked = synapse.model_copy(update={"seed": round_number})
                targets = [Target(axon._signer.hotkey, "127.0.0.1", axon.port) for axon in axons]
                results = await asyncio.gather(*(dendrite.query(target, asked) for target in targets))
                assert [result.status for result in results] == [QueryStatus.ANSWERED] * 64
                assert [result.target for result in results] == targets
        await asyncio.gather(*(axon.stop() for axon in axons))


# --- what a miner may say instead ------------------------------------------------------------------------------------


def raising(error: Exception) -> Any:
    async def handler(synapse: TextToImageSynapse, caller: str) -> list[GeneratedImage]:
        raise error

    return handler


def returning(*images: GeneratedImage) -> Any:
    async def handler(synapse: TextToImageSynapse, caller: str) -> list[GeneratedImage]:
        return list(images)

    return handler


FINE = GeneratedImage("png", 64, 64, 7, "m", b"x")


@pytest.mark.parametrize(
    ("handler", "status", "detail"),
    [
        (raising(Busy(2.2)), QueryStatus.BUSY, "busy, ask again in 3 s"),
        (raising(Busy(0)), QueryStatus.BUSY, "busy, ask again in 1 s"),
        (raising(Unsupported("only 64 x 64")), QueryStatus.REFUSED, "HTTP 422 unsupported"),
        (raising(RuntimeError("out of memory at 0x7f")), QueryStatus.FAILED, "HTTP 500 internal_error"),
        (raising(TimeoutError("its own")), QueryStatus.FAILED, "HTTP 500 internal_error"),
        (returning(), QueryStatus.FAILED, "HTTP 500 internal_error"),
        (returning(FINE, FINE, FINE), QueryStatus.FAILED, "HTTP 500 internal_error"),
        (returning(GeneratedImage("png", 32, 64, 7, "m", b"x")), QueryStatus.FAILED, "HTTP 500 internal_error"),
        (returning(GeneratedImage("png", 64, 64, 7, "<m>", b"x")), QueryStatus.FAILED, "HTTP 500 internal_error"),
        (returning(FINE), QueryStatus.ANSWERED, ""),
    ],
)
async def test_handlers_that_do_not_deliver(
    handler: Any,
    status: QueryStatus,
    detail: str,
    serve: Serve,
    dendrite: Dendrite,
    target: Where,
    synapse: TextToImageSynapse,
) -> None:
    async with serve(handler) as axon:
        result = await dendrite.query(target(axon.port), synapse)
    assert (result.status, result.detail) == (status, detail)
    assert bool(result.images) == (status is QueryStatus.ANSWERED)


@pytest.mark.parametrize(
    ("refusal", "detail"),
    [
        (Refusal.NOT_REGISTERED, "HTTP 403 not_registered, unsigned"),
        (Refusal.NO_PERMIT, "HTTP 403 no_permit, unsigned"),
        (Refusal.BLACKLISTED, "HTTP 403 blacklisted, unsigned"),
    ],
)
async def test_the_policy_comes_before_any_cryptography(
    refusal: Refusal, detail: str, dendrite: Dendrite, target: Where, synapse: TextToImageSynapse, keys: Keys
) -> None:
    class Untouched:
        async def verify_request(self, **_: Any) -> Any:
            raise AssertionError("a signature was verified")

        def verify(self, *_: Any) -> Any:
            raise AssertionError("a signature was verified")

    claimed: list[str] = []

    def policy(hotkey: str) -> Refusal:
        claimed.append(hotkey)
        return refusal

    axon = Axon(paint, keys.miner, Untouched(), host="127.0.0.1", port=0, policy=policy)
    async with asyncio.TaskGroup() as group:
        group.create_task(axon.serve())
        await axon.started.wait()
        result = await dendrite.query(target(axon.port), synapse)
        await axon.stop()
    assert (result.status, result.detail) == (QueryStatus.REFUSED, detail)
    assert claimed == [keys.validator.hotkey]


async def test_mistakes_of_the_operator_are_an_internal_error(
    serve: Serve, dendrite: Dendrite, target: Where, synapse: TextToImageSynapse
) -> None:
    def broken(hotkey: str) -> Any:
        raise KeyError(hotkey)

    async with serve(policy=broken) as axon:
        result = await dendrite.query(target(axon.port), synapse)
    assert (result.status, result.detail) == (QueryStatus.FAILED, "HTTP 500 internal_error, unsigned")
    async with serve(priority=broken) as axon:
        result = await dendrite.query(target(axon.port), synapse)
    assert (result.status, result.detail) == (QueryStatus.FAILED, "HTTP 500 internal_error")


async def test_the_wrong_miner_behind_an_address(
    serve: Serve, dendrite: Dendrite, target: Where, synapse: TextToImageSynapse, keys: Keys
) -> None:
    """A request is for one hotkey; another one's axon refuses it."""
    async with serve(signer=keys.stranger) as axon:
        result = await dendrite.query(target(axon.port), synapse)
    assert (result.status, result.detail) == (QueryStatus.REFUSED, "HTTP 401 authentication_failed, unsigned")


# --- queue, deadlines, hanging up ------------------------------------------------------------------------------------


async def test_a_full_miner_says_busy(
    serve: Serve, dendrite: Dendrite, target: Where, synapse: TextToImageSynapse
) -> None:
    gate = Gate()
    async with serve(gate, limits=Limits(max_running=1, max_waiting=1)) as axon:
        at = target(axon.port)
        first = asyncio.create_task(dendrite.query(at, synapse))
        await gate.entered.acquire()
        rest = [asyncio.create_task(dendrite.query(at, synapse)) for _ in range(3)]
        done, waiting = await asyncio.wait(rest, return_when=asyncio.FIRST_COMPLETED)
        while len(done) < 2:
            more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            done |= more
        assert [task.result().status for task in done] == [QueryStatus.BUSY] * 2
        gate.opened.set()
        assert (await first).status is QueryStatus.ANSWERED
        assert (await waiting.pop()).status is QueryStatus.ANSWERED


async def test_priority_decides_who_is_next(
    serve: Serve, dendrite: Dendrite, target: Where, synapse: TextToImageSynapse, keys: Keys
) -> None:
    gate = Gate()
    priorities = {keys.validator.hotkey: 1.0, keys.stranger.hotkey: 2.0}
    waiting = asyncio.Semaphore(0)

    def priority(hotkey: str) -> float:
        waiting.release()
        return priorities[hotkey]

    stranger = Dendrite(keys.stranger, BtAuthVerifier(keys.stranger.hotkey), allow_private=True)
    async with serve(gate, priority=priority, limits=Limits(max_running=1)) as axon, stranger:
        queries = []
        for asker in (dendrite, dendrite, stranger):
            queries.append(asyncio.create_task(asker.query(target(axon.port), synapse)))
            await waiting.acquire()
        gate.opened.set()
        assert {(await query).status for query in queries} == {QueryStatus.ANSWERED}
    assert gate.callers == [keys.validator.hotkey, keys.stranger.hotkey, keys.validator.hotkey]


async def test_the_deadline_ends_both_sides(
    serve: Serve, dendrite: Dendrite, target: Where, synapse: TextToImageSynapse
) -> None:
    gate = Gate()
    hurried = synapse.model_copy(update={"deadline_seconds": 1.5})
    async with serve(gate) as axon:
        result = await dendrite.query(target(axon.port), hurried)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await gate.left.acquire()
    # Whichever side notices first says so.
    assert result.status in (QueryStatus.TIMEOUT, QueryStatus.FAILED)
    assert result.detail in ("no answer in 1.5 s", "HTTP 504 deadline_exceeded")
    assert gate.cancelled == 1


async def test_hanging_up_cancels_the_handler_and_frees_its_slot(
    serve: Serve, dendrite: Dendrite, target: Where, synapse: TextToImageSynapse
) -> None:
    gate = Gate()
    async with serve(gate, limits=Limits(max_running=1)) as axon:
        query = asyncio.create_task(dendrite.query(target(axon.port), synapse))
        await gate.entered.acquire()
        query.cancel()
        with pytest.raises(asyncio.CancelledError):
            await query
        async with asyncio.timeout(PATIENCE_SECONDS):
            await gate.left.acquire()
        assert gate.cancelled == 1
        gate.opened.set()
        assert (await dendrite.query(target(axon.port), synapse)).status is QueryStatus.ANSWERED


async def test_a_deadline_of_the_caller_is_the_callers(
    serve: Serve, dendrite: Dendrite, target: Where, synapse: TextToImageSynapse
) -> None:
    """A timeout around the query is not mistaken for the synapse's."""
    async with serve(Gate()) as axon:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await dendrite.query(target(axon.port), synapse)


# --- starting and stopping -------------------------------------------------------------------------------------------


async def test_stop_lets_a_handler_finish(
    serve: Serve, dendrite: Dendrite, target: Where, synapse: TextToImageSynapse
) -> None:
    gate = Gate()
    async with serve(gate) as axon:
        query = asyncio.create_task(dendrite.query(target(axon.port), synapse))
        await gate.entered.acquire()
        stopping = asyncio.create_task(axon.stop())
        await asyncio.sleep(0)
        gate.opened.set()
        assert (await query).status is QueryStatus.ANSWERED
        await stopping
    assert (await dendrite.query(target(axon.port), synapse)).status is QueryStatus.UNREACHABLE


@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_the_end_does_not_wait_for_a_stuck_handler(
    how: str, dendrite: Dendrite, target: Where, synapse: TextToImageSynapse, keys: Keys
) -> None:
    gate = Gate()
    limits = Limits(shutdown_seconds=1)
    verifier = BtAuthVerifier(keys.miner.hotkey)
    axon = Axon(gate, keys.miner, verifier, host="127.0.0.1", port=0, policy=lambda _: None, limits=limits)
    serving = asyncio.create_task(axon.serve())
    await axon.started.wait()
    query = asyncio.create_task(dendrite.query(target(axon.port), synapse))
    await gate.entered.acquire()
    async with asyncio.timeout(PATIENCE_SECONDS):
        if how == "stop":
            await axon.stop()
            await serving
        else:
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serving
        assert gate.cancelled == 1
        assert (await query).status in (QueryStatus.FAILED, QueryStatus.UNREACHABLE)
    with socket.create_server(("127.0.0.1", axon.port)):
        pass  # the port is free again


async def test_stopping_before_serving_prevents_it(keys: Keys) -> None:
    axon = Axon(paint, keys.miner, BtAuthVerifier(keys.miner.hotkey), host="127.0.0.1", port=0, policy=lambda _: None)
    await axon.stop()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await axon.serve()


async def test_an_axon_serves_once(serve: Serve) -> None:
    async with serve() as axon:
        with pytest.raises(RuntimeError, match="serves once"):
            await axon.serve()


@pytest.mark.parametrize("host", ["127.0.0.1", "203.0.113.7", "::zz"])
async def test_an_address_that_cannot_be_bound(host: str, keys: Keys) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        axon = Axon(paint, keys.miner, BtAuthVerifier(keys.miner.hotkey), host=host, port=port, policy=lambda _: None)
        with pytest.raises(ListenError, match=f"cannot listen on {host} port {port}"):
            await axon.serve()


async def test_a_dendrite_needs_its_context(keys: Keys, synapse: TextToImageSynapse, target: Where) -> None:
    dendrite = Dendrite(keys.validator, BtAuthVerifier(keys.validator.hotkey))
    with pytest.raises(RuntimeError, match="async with"):
        await dendrite.query(target(1), synapse)
