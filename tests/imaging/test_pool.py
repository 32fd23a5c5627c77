"""The decoder processes: what they return, and that nothing an image does to one of them outlasts its deadline."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from io import BytesIO

import numpy as np
import psutil
import pytest
from PIL import Image

from ig_subnet.imaging import DecoderError, DecoderKilled, DecoderPool, ImageError
from ig_subnet.imaging.worker import REPLY, REQUEST

PIXELS = np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8)


def png() -> bytes:
    file = BytesIO()
    Image.fromarray(PIXELS).save(file, "PNG")
    return file.getvalue()


async def decode(pool: DecoderPool, data: bytes | None = None) -> np.ndarray:
    return await pool.decode(
        png() if data is None else data, expected_format="png", expected_size=(96, 64), max_pixels=96 * 64
    )


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "ig_subnet.imaging.worker" in child.cmdline()]


async def test_many_images_at_once() -> None:
    async with DecoderPool(2) as pool:
        for pixels in await asyncio.gather(*(decode(pool) for _ in range(20))):
            np.testing.assert_array_equal(pixels, PIXELS)
        assert len(workers()) == 2
    assert workers() == []


async def test_a_refusal_says_why_and_costs_no_worker() -> None:
    async with DecoderPool(1) as pool:
        before = workers()
        with pytest.raises(ImageError, match="does not decode"):
            await decode(pool, png()[:500])
        with pytest.raises(ImageError, match="none of png, jpeg, webp"):
            await pool.decode(b"GIF89a", expected_format="portable pixmap", expected_size=(1, 1), max_pixels=1)
        np.testing.assert_array_equal(await decode(pool), PIXELS)
        assert workers() == before


async def test_a_worker_that_does_not_answer_is_killed_and_replaced() -> None:
    async with DecoderPool(1, deadline_seconds=0.5) as pool:
        (stuck,) = workers()
        stuck.suspend()
        with pytest.raises(DecoderKilled, match=r"not decoded within 0\.5 s"):
            await decode(pool)
    async with DecoderPool(1, deadline_seconds=30) as pool:
        (stuck,) = workers()
        stuck.suspend()
        waiting = asyncio.create_task(decode(pool))
        await asyncio.sleep(0.1)
        waiting.cancel()  # the round was given up
        with pytest.raises(asyncio.CancelledError):
            await waiting
        np.testing.assert_array_equal(await decode(pool), PIXELS)
        assert stuck not in workers()


async def test_a_worker_that_dies_on_an_image_is_replaced() -> None:
    async with DecoderPool(1, deadline_seconds=30) as pool:
        (victim,) = workers()
        victim.suspend()
        waiting = asyncio.create_task(decode(pool))
        await asyncio.sleep(0.1)
        victim.kill()
        with pytest.raises(DecoderKilled, match="ended the decoder"):
            await waiting
        np.testing.assert_array_equal(await decode(pool), PIXELS)


async def test_a_worker_that_died_while_idle_is_nobodys_fault() -> None:
    async with DecoderPool(1, deadline_seconds=30) as pool:
        (victim,) = workers()
        os.kill(victim.pid, signal.SIGKILL)
        while psutil.pid_exists(victim.pid):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # its watcher has reaped it, and the event loop hears of it next
        np.testing.assert_array_equal(await decode(pool), PIXELS)


async def test_workers_are_not_interrupted_by_the_terminal_and_end_with_their_parent() -> None:
    program = (
        "import asyncio, psutil\n"
        "from ig_subnet.imaging import DecoderPool\n"
        "async def main():\n"
        "    async with DecoderPool(1):\n"
        "        print(psutil.Process().children()[0].pid, flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    worker = psutil.Process(int(await parent.stdout.readline()))
    assert os.getpgid(worker.pid) != os.getpgid(parent.pid)
    parent.kill()
    await parent.wait()
    await asyncio.to_thread(worker.wait, 30)


async def test_a_pool_that_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(DecoderError, match=r"python -m ig_subnet\.imaging\.worker"):
        async with DecoderPool(1):
            pass


async def test_a_closed_pool_decodes_nothing() -> None:
    async with DecoderPool(1) as pool:
        pass
    with pytest.raises(DecoderError, match="closed"):
        await decode(pool)


@pytest.mark.parametrize(("workers", "seconds"), [(0, 1.0), (1, 0.0)])
def test_a_pool_needs_workers_and_time(workers: int, seconds: float) -> None:
    with pytest.raises(ValueError, match="needs workers and time"):
        DecoderPool(workers, deadline_seconds=seconds)


async def test_every_format_decodes_in_a_process_that_can_open_nothing() -> None:
    """Nor can what is imported late be imported there."""
    async with DecoderPool(1) as pool:
        (worker,) = workers()
        for format, options in (
            ("png", {}),
            ("jpeg", {"progressive": True}),
            ("webp", {}),
            ("webp", {"lossless": True}),
        ):
            file = BytesIO()
            Image.fromarray(PIXELS).save(file, format, **options)
            expected = {"expected_format": format, "expected_size": (96, 64), "max_pixels": 96 * 64}
            assert (await pool.decode(file.getvalue(), **expected)).shape == (64, 96, 3)
        assert worker.rlimit(psutil.RLIMIT_NOFILE) == (3, 3)
        assert {file.fd for file in worker.open_files()} <= {0, 1, 2}
        assert workers() == [worker]


async def test_a_worker_gets_nothing_secret_to_start_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    async with DecoderPool(1):
        (worker,) = workers()
        assert "HF_TOKEN" not in worker.environ()
        assert worker.environ()["PATH"]


def test_an_image_that_takes_the_processor_ends_the_worker() -> None:
    """Whatever the wall clock says. The image is stood in for by a loop without an end."""
    program = (
        "from ig_subnet.imaging import worker\n"
        "worker.PROCESSOR_SECONDS = 0.1\n"
        "def decode_image(*data, **expected):\n"
        "    while True: pass\n"
        "worker.decode_image = decode_image\n"
        "worker.main()\n"
    )
    request = REQUEST.pack(b"png", 96, 64, 96 * 64, 1, 600.0) + b"x"
    done = subprocess.run([sys.executable, "-c", program], input=request, capture_output=True, timeout=60)
    assert (done.returncode, len(done.stdout)) == (-signal.SIGPROF, REPLY.size)  # ready, and then no answer
