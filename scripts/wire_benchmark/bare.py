"""The floor, for wire_benchmark.serve: the same bytes over aiohttp's client and server, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
from aiohttp import web
from wire_benchmark.serve import HOST, QUERY_SECONDS, Ask, image_of


def version() -> str:
    return f"aiohttp {aiohttp.__version__}"


@asynccontextmanager
async def serve_miners(count: int) -> AsyncIterator[list[int]]:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=image_of((await request.json())["seed"]))

    async with AsyncExitStack() as stack:
        ports = []
        for _ in range(count):
            app = web.Application()
            app.router.add_post("/", answer)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, HOST, 0)
            await site.start()
            ports.append(site.port)
        yield ports


@asynccontextmanager
async def connect(ports: Sequence[int]) -> AsyncIterator[Ask]:
    timeout = aiohttp.ClientTimeout(total=QUERY_SECONDS)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:

        async def ask(miner: int, image_bytes: int) -> bytes:
            async with session.post(f"http://{HOST}:{ports[miner]}/", json={"seed": image_bytes}) as response:
                return await response.read()

        yield ask
