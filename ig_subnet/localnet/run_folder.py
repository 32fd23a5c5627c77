"""The folder of a run of the local network: where everything lies in it, and what one run tells the next."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ig_subnet.localnet.errors import LocalnetError


class FolderUnusable(LocalnetError):
    """The folder cannot hold a run: not writable, in use, or full of something else."""


@dataclass
class Memory:
    """How a run was begun, and its consensus epochs that paid: the block of each, and uid -> incentive."""

    seed: int
    miners: list[str]
    paid_epochs: list[tuple[int, dict[int, float]]]


class RunFolder:
    """The paths of a run under `out`. Nothing is made before it is claimed."""

    def __init__(self, out: Path) -> None:
        self.out = out.resolve()
        self.memory = self.out / "localnet.json"
        self.genesis = self.out / "genesis.json"
        self.chain = self.out / "chain"
        self.wallets = self.out / "wallets"
        self.neurons = self.out / "neurons"
        self.images = self.out / "images"
        self.logs = self.out / "logs"
        self.cache = self.out / "cache"
        self.summary = self.out / "summary.json"
        self.report = self.out / "report.html"
        self.commitments = self.out / "commitments.jsonl"

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Makes the folder and holds it for one run at a time. Raises FolderUnusable."""
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            lock = (self.out / ".lock").open("w")
        except OSError as error:
            raise FolderUnusable(f"cannot write to {self.out}: {error}; choose another --out") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise FolderUnusable(
                    f"another run is using {self.out}: wait for it, or choose another --out"
                ) from error
            yield

    def remove_state(self) -> None:
        """Removes what a run has left here, but for its caches. A folder without a run's memory is left as it is."""
        if self.memory.exists():
            for folder in (self.chain, self.wallets, self.neurons, self.images, self.logs):
                shutil.rmtree(folder, ignore_errors=True)
            for file in (self.genesis, self.summary, self.report, self.commitments):
                file.unlink(missing_ok=True)
            self.memory.unlink()  # last: it says whose all this is

    def recall(self, seed: int | None, miners: list[str] | None, default_miners: list[str]) -> Memory:
        """What the last run remembered, or a new memory, kept from now on; a `seed` or `miners` of None is any.

        Raises FolderUnusable where the run was begun with others, or the folder is not a run's.
        """
        if not self.memory.exists():
            strange = [path.name for path in (self.chain, self.wallets, self.neurons, self.images) if path.exists()]
            if strange:
                raise FolderUnusable(f"{self.out} has a {strange[0]} folder of something else: choose another --out")
            memory = Memory(seed or 0, miners or default_miners, [])
            self.remember(memory)
            return memory
        try:
            kept = json.loads(self.memory.read_text(encoding="utf-8"))
            epochs = [(block, {int(uid): share for uid, share in paid.items()}) for block, paid in kept["paid_epochs"]]
            memory = Memory(kept["seed"], kept["miners"], epochs)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FolderUnusable(f"{self.memory} is damaged ({error!r}): choose another --out") from error
        if seed not in (None, memory.seed):
            raise FolderUnusable(f"{self.out} was begun with --seed {memory.seed}: use that one, or --fresh")
        if miners not in (None, memory.miners):
            raise FolderUnusable(f"{self.out} was begun with --miners {' '.join(memory.miners)}: use those, or --fresh")
        return memory

    def remember(self, memory: Memory) -> None:
        """Keeps it for the next run; a kill at any instant leaves the old or the new."""
        partial = self.memory.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(memory), indent=2) + "\n", encoding="utf-8")
        partial.replace(self.memory)
