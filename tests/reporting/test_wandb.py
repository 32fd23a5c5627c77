"""wandb: off unless asked for, real offline runs, and errors that say what to do."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from ig_subnet.config.settings import ValidatorSettings, parse_validator_settings
from ig_subnet.reporting.wandb_log import WandbError, WandbRun, open_run


def settings(root: Path, *flags: str) -> ValidatorSettings:
    common = ["--netuid", "7", "--subtensor.network", "local", "--neuron.root", str(root)]
    return parse_validator_settings([*common, *flags])


def test_off_is_the_default_and_touches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    run = open_run(settings(tmp_path), uid=3)
    run.log_round({"round": 1, "answered": 4})
    run.finish()
    assert not list(tmp_path.iterdir())


def test_not_installed_is_said_clearly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(WandbError, match=r"pip install 'ig-subnet\[wandb\]'"):
        open_run(settings(tmp_path, "--no-wandb.off"), uid=3)


def test_offline_run_is_written_under_the_state_directory(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed: pip install 'ig-subnet[wandb]'")
    chosen = settings(tmp_path, "--no-wandb.off", "--wandb.offline")
    run = open_run(chosen, uid=3)
    assert run._run is not None
    assert (run._run.project, run._run.name) == ("subnet-7-validator", "validator-3-0.1.0")
    for number in (1, 2):
        run.log_round({"round": number, "answered": 4, "incentive/mean": 0.5})
    run.finish()
    run.finish()
    run.log_round({"round": 3})  # after the end: ignored
    written = list(chosen.state_directory.glob("wandb/offline-run-*/*.wandb"))
    assert len(written) == 1
    deadline = time.monotonic() + 30  # wandb's own process writes the end of the file, sometimes after `finish`
    while written[0].stat().st_size <= 100 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert written[0].stat().st_size > 100


def test_a_failure_later_never_reaches_the_validator() -> None:
    class Broken:
        calls = 0

        def log(self, figures: dict[str, float]) -> None:
            self.calls += 1
            raise ConnectionError("gone")

    broken = Broken()
    run = WandbRun(broken)
    run.log_round({"round": 1})
    run.log_round({"round": 2})
    run.finish()
    assert broken.calls == 1
