"""taowire's miners and validator client, for wire_benchmark.serve in an environment of its own.

As its own benchmark sets them up (taowire.testing.bench), with a route that answers with raw bytes. Requests and
answers are signed; 64 queries run at a time.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle

import uvicorn
from pydantic import BaseModel
from taowire import Miner, RouteContext, ValidatorClient
from taowire.config import MinerSettings
from taowire.miner.app import NoSignalServer
from taowire.observability.logging import configure_logging
from taowire.testing.bench import BENCH_NETUID, bench_chain, fanout_key, fanout_neurons
from taowire.testing.keys import dev_key
from taowire.testing.metagraph import FakeMetagraphSource
from wire_benchmark.serve import QUERY_SECONDS, Ask, image_of

HOST = "127.0.0.2"  # loopback, but not 127.0.0.1, which it refuses
ROUTE = "/v1/image"
NO_LIMIT = 1_000_000  # requests a second from an address and a hotkey: one validator asks without a pause

configure_logging("WARNING")


class ImageRequest(BaseModel):
    prompt: str
    width: int
    height: int
    seed: int


def version() -> str:
    return f"taowire {importlib.metadata.version('taowire')}"


@asynccontextmanager
async def serve_miners(count: int) -> AsyncIterator[list[int]]:
    keys = [fanout_key(number) for number in range(count)]
    chains = [
        bench_chain([key.ss58_address for key in keys[place::2]]) for place in range(2)
    ]  # 256 do not fit into one
    ports: list[int] = []
    servers = []
    async with AsyncExitStack() as stack:
        for key, chain in zip(keys, cycle(chains), strict=False):
            listener = stack.enter_context(socket.create_server((HOST, 0), backlog=256))
            ports.append(listener.getsockname()[1])
            settings = MinerSettings(
                netuid=BENCH_NETUID,
                wallet_name="none",  # the key is handed over
                external_ip=HOST,
                bind_host=HOST,
                bind_port=ports[-1],
                allow_private_axons=True,
                ntp_servers=(),
                rate_ip_per_s=NO_LIMIT,
                rate_ip_burst=NO_LIMIT,
                rate_hotkey_per_s=NO_LIMIT,
                rate_hotkey_burst=NO_LIMIT,
            )
            gateway = chain.with_signer(key.ss58_address)
            metagraph = FakeMetagraphSource(gateway, BENCH_NETUID)
            miner = Miner(settings, gateway=gateway, metagraph=metagraph, hotkey=key, check_sdk=False)

            @miner.route(ROUTE, request=ImageRequest)
            async def answer(request: ImageRequest, context: RouteContext) -> bytes:
                return image_of(request.seed)

            app = await stack.enter_async_context(miner.running())
            options = {name: value for name, value in miner.uvicorn_options().items() if name not in ("host", "port")}
            server = NoSignalServer(uvicorn.Config(app, lifespan="off", **options))
            servers.append((server, asyncio.create_task(server.serve([listener]))))
        while not all(server.started for server, _ in servers):  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.05)
        yield ports
        for server, _ in servers:
            server.should_exit = True
        await asyncio.gather(*(task for _, task in servers))


@asynccontextmanager
async def connect(ports: Sequence[int]) -> AsyncIterator[Ask]:
    neurons = fanout_neurons(dict(enumerate(ports)), HOST)
    async with ValidatorClient(dev_key("alice").signer(), timeout_s=QUERY_SECONDS) as client:

        async def ask(miner: int, image_bytes: int) -> bytes:
            request = ImageRequest(
                prompt="a lighthouse on a cliff at dusk, oil on canvas", width=512, height=512, seed=image_bytes
            )
            result = await client.query(neurons[miner], ROUTE, request.model_dump_json().encode())
            if not (result.ok and result.response_verified):
                raise RuntimeError(f"miner {miner}: {result.error_code}")
            return bytes(result.data)

        yield ask
