"""The whole subnet as one command: what it leaves, and that every way of stopping it leaves no process behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ig_subnet.reporting.history import read_history
from ig_subnet.reporting.summary import read_summary
from ig_subnet.validating.commitments import from_lines, verify
from ig_subnet.validating.store import STORE_FILE

# Limits, not expectations: on two free cores a run takes a minute, on a machine that trains a model beside it, ten.
RUN_SECONDS = 1200.0
SPEECH_SECONDS = 600.0
END_SECONDS = 60.0
ROUNDS = re.compile(r"rounds (\d+) \(of ")

pytestmark = pytest.mark.timeout(2 * RUN_SECONDS)


def live_members(session: int) -> dict[int, str]:
    """Every live process of a session with its command line: all that a run starts stays in the run's session."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, member_of = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(member_of) == session and state not in "ZX":
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has just ended
    return found


def all_gone(session: int) -> bool:
    deadline = time.monotonic() + END_SECONDS
    while live_members(session) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not live_members(session)


@contextmanager
def localnet(project_root: Path, log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command as it runs without a terminal, in a session of its own; whatever is left of it ends with the test."""
    command = [sys.executable, str(project_root / "scripts" / "localnet.py"), *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, env=environment, cwd=log.parent
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for member in live_members(process.pid):
            with suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)


def until(log: Path, what: str, seen: Callable[[str], bool]) -> None:
    deadline = time.monotonic() + SPEECH_SECONDS
    while not seen(log.read_text(errors="replace")):
        assert time.monotonic() < deadline, f"it never said {what}:\n{log.read_text()}"
        time.sleep(0.05)


def said(log: Path, text: str) -> None:
    until(log, repr(text), lambda output: text in output)


def went_on(log: Path, rounds: int) -> None:
    """Waits for more than `rounds`: it looks once a second, in which a quick machine finishes several."""
    until(log, f"more than {rounds} rounds", lambda output: any(int(n) > rounds for n in ROUNDS.findall(output)))


@pytest.fixture(scope="module")
def finished(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has ended by itself."""
    folder = tmp_path_factory.mktemp("main-job")
    log, out = folder / "run.log", folder / "a folder"
    arguments = ("--out", "a folder", "--rounds", "2", "--seed", "3", "--miners", "pocket-2", "noise")
    with localnet(project_root, log, *arguments) as process:
        status = process.wait(timeout=RUN_SECONDS)
        assert status == 0, "\n".join(path.read_text() for path in (log, *out.glob("logs/*.log")))
        assert all_gone(process.pid), live_members(process.pid)
    return out


def score_store(out: Path) -> Path:
    (store,) = out.glob(f"neurons/**/{STORE_FILE}")
    return store


def test_from_prompt_to_incentive(finished: Path) -> None:
    summary = read_summary(finished / "summary.json")
    assert summary.rounds >= 2
    assert summary.epochs >= 2
    assert [miner.role for miner in summary.ranking] == ["pocket-2", "noise"]
    assert summary.ranking[0].incentive > 0.5
    assert sum(miner.weight for miner in summary.miners) == pytest.approx(1.0)
    assert sum(miner.incentive for miner in summary.miners) == pytest.approx(1.0, abs=1e-3)
    for miner in summary.miners:
        assert miner.answers == miner.queries > 0
        assert (miner.reward > 0) == (miner.role != "noise"), "noise has grain all over"
    history = read_history(score_store(finished))
    assert len(history.rounds) == summary.rounds
    assert all(image.scores for answer in history.answers for image in answer.images)
    last = [setting for setting in history.weight_settings if setting.outcome == "set"][-1]
    assert last.block >= history.rounds[1].block  # both rounds that were wanted are in what was paid last
    for miner in summary.miners:  # the one validator's weights are what consensus pays by
        assert miner.incentive == pytest.approx(miner.weight, abs=1e-3)
        assert miner.weight == pytest.approx(last.weights.get(miner.uid, 0.0), abs=1e-3)
    report = (finished / "report.html").read_text(encoding="utf-8")
    assert "pocket-2" in report
    assert "data:image/png;base64," in report
    commitments = from_lines((finished / "commitments.jsonl").read_text(encoding="utf-8"))
    assert verify(commitments) == [None] * (summary.rounds + 1)
    logs = {path.stem for path in (finished / "logs").iterdir()}
    assert logs == {"index", "miner-noise", "miner-pocket-2", "node", "validator"}


def test_a_second_run_goes_on_and_stops_in_the_middle_of_its_rounds(project_root: Path, finished: Path) -> None:
    log = finished.parent / "second.log"
    before = read_summary(finished / "summary.json")
    with localnet(project_root, log, "--out", "a folder", "--rounds", "1000") as process:
        went_on(log, before.rounds)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=END_SECONDS) == 130
        assert all_gone(process.pid), live_members(process.pid)
    assert "stopped by SIGINT" in log.read_text()
    assert read_summary(finished / "summary.json") == before
    assert len(read_history(score_store(finished)).rounds) > before.rounds


def interrupt(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)


def interrupt_the_group(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGINT)


def terminate(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)


def interrupt_twice(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("moment", "stop", "status"),
    [
        ("the chain serves", interrupt, 130),
        ("the chain serves", terminate, 143),
        ("hotkeys are registered", interrupt_the_group, 130),
        ("hotkeys are registered", interrupt_twice, 130),
    ],
    ids=["chain-int", "chain-term", "loading-group", "loading-twice"],
)
def test_stopped_before_the_first_round(
    project_root: Path, tmp_path: Path, moment: str, stop: Callable[[subprocess.Popen[bytes]], None], status: int
) -> None:
    log = tmp_path / "run.log"
    with localnet(project_root, log, "--out", "out", "--miners", "pocket-2", "noise") as process:
        said(log, moment)
        stop(process)
        assert process.wait(timeout=END_SECONDS) == status
        assert all_gone(process.pid), live_members(process.pid)
    assert "stopped by" in log.read_text()
    assert not (tmp_path / "out" / "summary.json").exists()


def test_nothing_outlives_sigkill(project_root: Path, tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    with localnet(project_root, log, "--out", "out", "--miners", "noise") as process:
        said(log, "hotkeys are registered")
        process.kill()
        process.wait()
        assert all_gone(process.pid), live_members(process.pid)


def test_an_early_death_is_one_clear_error(project_root: Path, tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    with localnet(project_root, log, "--out", "out", "--miners", "noise") as process:
        said(log, "the chain serves")
        node = next(pid for pid, command in live_members(process.pid).items() if "-m ig_subnet.localnet" in command)
        os.kill(node, signal.SIGKILL)
        assert process.wait(timeout=END_SECONDS) == 1
        assert all_gone(process.pid), live_members(process.pid)
    assert "error: node was ended by SIGKILL; the end of " in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--miners", "sdxl"), "'sdxl' is neither noise nor pocket-N"),
        (("--rounds", "0"), "must be at least 1"),
        (("--out", "taken"), "taken has a wallets folder of something else"),
        (("--out", "taken", "--fresh"), "taken has a wallets folder of something else"),
    ],
)
def test_bad_input_is_one_clear_error(
    project_root: Path, tmp_path: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    (tmp_path / "taken" / "wallets").mkdir(parents=True)
    log = tmp_path / "run.log"
    with localnet(project_root, log, *arguments) as process:
        assert process.wait(timeout=END_SECONDS) in (1, 2)
    assert complaint in log.read_text()
    assert "Traceback" not in log.read_text()
    assert (tmp_path / "taken" / "wallets").is_dir()


FAKE_PYTHON = """#!/bin/sh
case "$1$2" in
    -mpip) echo "$$" > "$(dirname "$0")/pip.pid"; exec sleep 60;;
    -c*) exec {python} "$@";;
    *) for argument in "$@"; do echo "<$argument>"; done;;
esac
"""


@pytest.fixture
def project_with_spaces(project_root: Path, tmp_path: Path) -> Path:
    """A project whose environment is a stand-in: it only says what it was asked to run, and installs for ever."""
    project = tmp_path / "my project"
    binaries = project / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (project / "scripts").mkdir()
    for name in ("localnet.sh", "environment.sh"):
        shutil.copy(project_root / "scripts" / name, project / "scripts")
    for name in ("setup.py", "constraints.txt"):
        (project / name).write_text("")
    (binaries / "python").write_text(FAKE_PYTHON.format(python=sys.executable))
    (binaries / "python").chmod(0o755)
    return project


def test_the_shell_script_works_from_anywhere(project_with_spaces: Path, tmp_path: Path) -> None:
    digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # of two empty files
    (project_with_spaces / ".venv" / ".installed").write_text(f"{digest}\n")
    script = project_with_spaces / "scripts" / "localnet.sh"
    done = subprocess.run(
        ["bash", str(script), "--out", "a b"], cwd=tmp_path, capture_output=True, text=True, timeout=END_SECONDS
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"<{project_with_spaces}/scripts/localnet.py>", "<--out>", "<a b>"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_installation_can_be_stopped(project_with_spaces: Path, number: signal.Signals, status: int) -> None:
    script = project_with_spaces / "scripts" / "localnet.sh"
    with subprocess.Popen(["bash", str(script)], start_new_session=True, stderr=subprocess.DEVNULL) as process:
        pip = project_with_spaces / ".venv" / "bin" / "pip.pid"
        deadline = time.monotonic() + END_SECONDS
        while not (pip.exists() and pip.read_text().strip()) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait(timeout=END_SECONDS) == status
        assert all_gone(process.pid), live_members(process.pid)
