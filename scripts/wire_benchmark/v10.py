"""bittensor 10's axon and dendrite, for wire_benchmark.serve in an environment of its own (requirements-v10.txt).

Images travel as base64 in the synapse's JSON, as subnets of that time sent them; answers are not signed. All axons'
applications run on one event loop: the two threads that an axon starts of itself wake up every millisecond, and those
of 256 axons would keep a core busy with nothing. An axon reads the types of its functions: no `from __future__` here.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import ClassVar, Tuple  # noqa: UP035

import bittensor
import uvicorn
from bittensor.core.chain_data import AxonInfo
from bittensor.utils import networking
from bittensor_wallet import Keypair
from pydantic import Field
from wire_benchmark.serve import HOST, QUERY_SECONDS, Ask, image_of

ELSEWHERE = "192.0.2.1"  # what axon and dendrite announce; they would ask the internet for it
PORT = 8091  # of an axon that does not listen by itself
KEEP_ALIVE_SECONDS = 300  # an axon's 5 would end between two turns, just as its dendrite asks again, which then fails
networking.get_external_ip = lambda: ELSEWHERE


class Images(bittensor.Synapse):
    """A request for images, and their base64."""

    prompt: str
    width: int
    height: int
    seed: int
    images: list[str] = Field(default_factory=list)
    required_hash_fields: ClassVar[tuple[str, ...]] = ("prompt", "width", "height", "seed")


def version() -> str:
    return f"bittensor {bittensor.__version__}"


def wallet_of(uri: str) -> SimpleNamespace:
    key = Keypair.create_from_uri(uri)
    return SimpleNamespace(hotkey=key, coldkeypub=key)


def answer(synapse: Images) -> Images:
    synapse.images = [base64.b64encode(image_of(synapse.seed)).decode()]
    return synapse


def permit(synapse: Images) -> Tuple[bool, str]:  # noqa: UP006 - an axon compares the signature
    return synapse.dendrite.hotkey != PERMITTED, "no permit"


PERMITTED = wallet_of("//Validator").hotkey.ss58_address


@asynccontextmanager
async def serve_miners(count: int) -> AsyncIterator[list[int]]:
    servers = []
    for number in range(count):
        axon = bittensor.Axon(wallet=wallet_of(f"//Miner{number}"), port=PORT, external_ip=HOST)
        axon.attach(answer, blacklist_fn=permit)
        config = uvicorn.Config(
            axon.app, host=HOST, port=0, log_level="critical", lifespan="off", timeout_keep_alive=KEEP_ALIVE_SECONDS
        )
        servers.append(uvicorn.Server(config))
    tasks = [asyncio.create_task(server._serve()) for server in servers]  # serve() would take the signals
    while not all(server.started for server in servers):  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.05)
    yield [server.servers[0].sockets[0].getsockname()[1] for server in servers]
    for server in servers:
        server.should_exit = True
    await asyncio.gather(*tasks)


@asynccontextmanager
async def connect(ports: Sequence[int]) -> AsyncIterator[Ask]:
    targets = [
        AxonInfo(0, HOST, port, 4, wallet_of(f"//Miner{number}").hotkey.ss58_address, "")
        for number, port in enumerate(ports)
    ]
    async with bittensor.Dendrite(wallet=wallet_of("//Validator").hotkey) as dendrite:

        async def ask(miner: int, image_bytes: int) -> bytes:
            synapse = Images(
                prompt="a lighthouse on a cliff at dusk, oil on canvas", width=512, height=512, seed=image_bytes
            )
            answered = await dendrite(targets[miner], synapse, timeout=QUERY_SECONDS, deserialize=False)
            if answered.dendrite.status_code != 200:
                raise RuntimeError(f"miner {miner}: {answered.dendrite.status_code} {answered.dendrite.status_message}")
            return base64.b64decode(answered.images[0], validate=True)

        yield ask
