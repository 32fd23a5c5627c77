"""Write the table of hostile bytes that implementations of the wire in any language can be held against.

    python scripts/make_wire_vectors.py

It makes tests/protocol/hostile.json: requests for images and for records with the answer that each must get, and
responses with how the query must end, all for a fixed clock and for development keys. docs/wire.md says how to use it.
Signatures whose payload has not changed are kept, so that only what changed differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from wire_vectors import requests, responses
from wire_vectors.signatures import CLOCK_NS, Signatures, hotkey, keypair, pieces

TABLE = Path(__file__).resolve().parents[1] / "tests" / "protocol" / "hostile.json"
VALIDATOR, MINER = "//Alice", "//Bob"
SYNAPSE = {
    **{"prompt": "a red circle", "negative_prompt": "", "width": 64, "height": 64, "num_images": 2, "seed": 7},
    **{"steps": None, "deadline_seconds": 12.0},
}
RECORD_SYNAPSE = {"rounds": 4, "before_round": None, "deadline_seconds": 12.0}
ABOUT = [
    "Bytes in, verdict out: see 'Test vectors' in docs/wire.md.",
    "In 'send' each character of a text is one byte; {repeat, times} is a text so many times.",
    "The receiver's clock stands at clock_ns; what it accepted before began at started_ns.",
]


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the table; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=TABLE, help="file to write (default: %(default)s)")
    out: Path = parser.parse_args(argv).out
    before = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    table = make(Signatures(_signed(before)))
    out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(f"{sum(len(table[kind]['cases']) for kind in ('requests', 'records', 'responses'))} cases in {out}")
    return 0


def make(signatures: Signatures) -> dict[str, Any]:
    """The whole table, as JSON has it."""
    body = json.dumps(SYNAPSE, separators=(",", ":")).encode()
    asked = requests.Requests(signatures, "/v1/text-to-image", VALIDATOR, MINER, body)
    asked.add("honest", None, asked.request())
    for add in (requests.add_lines, requests.add_framing, requests.add_headers, requests.add_signatures):
        add(asked)
    requests.add_callers(asked)
    requests.add_synapses(asked)

    body = json.dumps(RECORD_SYNAPSE, separators=(",", ":")).encode()
    told = requests.Requests(signatures, "/v1/record", MINER, VALIDATOR, body)
    told.add("honest", None, told.request())
    requests.add_signatures(told)
    requests.add_callers(told)
    requests.add_record_synapses(told)

    answers = responses.Responses(signatures, VALIDATOR, MINER, CLOCK_NS, SYNAPSE)
    for add_to in (responses.add_signatures, responses.add_framing, responses.add_errors, responses.add_bodies):
        add_to(answers)
    uris = sorted({VALIDATOR, MINER, "//Eve", *requests.REFUSED})
    return {
        "about": ABOUT,
        "clock_ns": CLOCK_NS,
        "started_ns": CLOCK_NS - 3600 * requests.SECOND,
        "keys": {uri: {"public_key": keypair(uri).public_key.hex(), "hotkey": hotkey(uri)} for uri in uris},
        "requests": {"receiver": MINER, "refused": requests.REFUSED, "cases": asked.cases},
        "records": {"receiver": VALIDATOR, "refused": requests.REFUSED, "cases": told.cases},
        "responses": {
            **{"validator": VALIDATOR, "miner": MINER, "nonce": CLOCK_NS, "synapse": SYNAPSE},
            "images": [pieces(data) for data in responses.IMAGES],
            "cases": answers.cases,
        },
    }


def _signed(table: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Every signature that a table holds."""
    for kind in ("requests", "records", "responses"):
        for case in table.get(kind, {}).get("cases", []):
            yield from case["signed"]


if __name__ == "__main__":
    sys.exit(main())
