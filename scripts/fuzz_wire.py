"""Throws bytes at everything that reads a stranger's, guided by the coverage that they reach (atheris, libFuzzer).

    python scripts/fuzz_wire.py --json fuzz.json --out fuzzing
    python scripts/fuzz_wire.py --target images --seconds 600 --out fuzzing

Targets (scripts/wire_fuzzing): requests to an axon, responses to a dendrite, the manifest of a signed response, a
signed record, and image files in the decoder. Each starts from tests/fuzz_corpus/<target>, which stays as it is; what
more it finds interesting is kept in OUT/<target>, from where the next run with the same OUT goes on. An input for which
something failed is written to OUT/findings, and ends its target. Seconds are of the wall clock, for each target.

A finding is repeated with `python scripts/fuzz_wire.py --replay FILE --target TARGET`. Once it is mended, the file
belongs into the corpus: tests/scripts/test_fuzz_wire.py replays all of that.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).parents[1] / "tests" / "fuzz_corpus"
NAMES = ("requests", "responses", "manifests", "records", "images")
SECONDS, QUICK_SECONDS = 300, 15
INPUT_SECONDS = 20  # one that takes longer is a finding
MEMORY_MIB = 2048  # and so is one at which the process has more
GRACE_SECONDS = 120  # for starting, reading the corpus, and the last input


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", action="append", choices=NAMES, help="(default: all of them)")
    parser.add_argument("--seconds", type=int, default=SECONDS, help=f"for each target (default: {SECONDS})")
    parser.add_argument("--runs", type=int, default=-1, help="end a target after so many inputs, too")
    parser.add_argument("--seed", type=int, default=0, help="of libFuzzer (default: 0, which draws one)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep what is found there (default: not at all)")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="only give this input to the target")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SECONDS} s for each target")
    options = parser.parse_args(arguments)
    if options.replay is not None:
        if len(options.target or ()) != 1:
            parser.error("--replay takes one --target")
        replay(options.target[0], options.replay.read_bytes())
        print("nothing was found")
        return 0
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is not installed; it has wheels for Linux on x86-64: pip install 'atheris>=3,<4'")
    if options.quick:
        options.seconds = QUICK_SECONDS
    from ig_subnet.reporting.measurements import write_measurements

    with tempfile.TemporaryDirectory(prefix="fuzz-wire-") as scratch:
        out = (options.out or Path(scratch)).absolute()
        rows = []
        for name in options.target or NAMES:
            rows.append(row := fuzz(name, out, options))
            print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        findings = sorted((out / "findings").iterdir())
        for finding in findings:
            print(f"\nfound: {finding}\n{finding.read_bytes()[:2000]!r}")
    if options.json:
        write_measurements(options.json, rows)
    return 1 if findings or any(row["findings"] for row in rows) else 0


def replay(name: str, data: bytes) -> None:
    """Gives one input to a target, without atheris. Raises what that finds."""
    from wire_fuzzing.targets import TARGETS

    with TARGETS[name].make() as target:
        target(data)


def fuzz(name: str, out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One target's row: what it was given, how fast, and how many inputs it failed for (0 or 1: the first ends it)."""
    grown, findings = out / name, out / "findings"
    grown.mkdir(parents=True, exist_ok=True)
    findings.mkdir(exist_ok=True)
    program = Path(__file__).parent / "wire_fuzzing" / "run.py"
    limits = [
        f"-max_total_time={options.seconds}",
        f"-runs={options.runs}",
        f"-seed={options.seed}",
        f"-timeout={INPUT_SECONDS}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-artifact_prefix={findings}/{name}-",
        "-print_final_stats=1",
    ]
    before = len(list(grown.iterdir()))
    started = time.monotonic()
    ended = subprocess.run(
        [sys.executable, str(program), name, *limits, str(grown), str(CORPUS / name)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=options.seconds + GRACE_SECONDS,
    )
    seconds = time.monotonic() - started
    if ended.returncode:
        print(ended.stdout[-6000:], file=sys.stderr)
    told = dict(re.findall(r"^stat::(\w+):\s+(\d+)$", ended.stdout, re.MULTILINE))
    executions = int(told.get("number_of_executed_units", 0))
    return {
        "target": name,
        "executions": executions,
        "seconds": round(seconds, 1),
        "executions_per_second": round(executions / seconds),
        "corpus_files": len(list((CORPUS / name).iterdir())),
        "new_files": len(list(grown.iterdir())) - before,
        "peak_rss_mib": int(told.get("peak_rss_mb", 0)),
        "findings": int(ended.returncode != 0),
    }


if __name__ == "__main__":
    sys.exit(main())
