"""The end of a pipe that asks (oracle/pipe.py answers): starts the process, waits no longer than it was told to."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

SCRIPTS = Path(__file__).parents[1]
CLOSING_SECONDS = 10.0


class OracleError(Exception):
    """A process failed, died, or did not answer in time; the message says which, and what it printed."""


class Oracle:
    """A process of `server` with `module`, run by the interpreter `python`. Close it, or use it in `with`."""

    def __init__(self, python: str | Path, module: str, threads: int = 1, server: str = "oracle.serve") -> None:
        self.module = module
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115, closed in close()
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(SCRIPTS), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "OMP_NUM_THREADS": str(threads),
            "HF_HUB_OFFLINE": "1",  # weights are given as files; an answer must never depend on a network
            "TOKENIZERS_PARALLELISM": "false",
        }
        self._process = subprocess.Popen(
            [str(python), "-m", server, module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
        )

    @property
    def returncode(self) -> int | None:
        """The exit status of the process; None while it runs."""
        return self._process.returncode

    def ask(self, operation: str, timeout: float, **fields: Any) -> dict[str, Any]:
        """The reply to one request. Raises `OracleError` when it is a failure or not there after `timeout` seconds."""
        assert self._process.stdin is not None
        line = json.dumps({"op": operation, **fields}) + "\n"
        try:
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise OracleError(self._describe("has ended")) from None
        reply = json.loads(self._read_line(time.monotonic() + timeout, timeout))
        if not reply["ok"]:
            raise OracleError(self._describe(f"answered {operation} with {reply['error']}"))
        return reply

    def _read_line(self, deadline: float, timeout: float) -> bytes:
        assert self._process.stdout is not None
        received = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not received.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise OracleError(self._describe(f"did not answer within {timeout:g} s"))
                part = os.read(self._process.stdout.fileno(), 65536)
                if not part:
                    raise OracleError(self._describe("has ended"))
                received += part
        return received

    def _describe(self, happened: str) -> str:
        self._log.seek(0)
        printed = self._log.read().strip().splitlines()[-8:]
        return "\n".join([f"{self.module} {happened}", *printed])

    def close(self) -> None:
        """End the process: by the end of its input, or by force after ten seconds."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self._process.wait(CLOSING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(CLOSING_SECONDS)
        self._process.stdout.close()
        self._log.close()

    def __enter__(self) -> Oracle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
