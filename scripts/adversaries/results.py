"""What every contestant earned, from the chain's incentives: as rows, a table, and a plot."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adversaries.roster import ANSWERED, CHEATING, Contestant

if TYPE_CHECKING:
    from ig_subnet.chain import MetagraphSnapshot

Row = dict[str, Any]

AXIS_END = 1.6  # of the plot; longer bars say their length


def gate_name(gates: bool) -> str:
    """As rows call it, and the folder of a subnet."""
    return "on" if gates else "off"


def rows_of(
    contestants: Sequence[Contestant],
    hotkeys: Mapping[str, str],
    gate: str,
    metagraph: MetagraphSnapshot,
    store: Path,
) -> list[Row]:
    """One row a contestant; `hotkeys` has the address of each of its names.

    `earned` is the chain's incentive of one of its hotkeys (their mean), `honest_best` the highest of an honest miner,
    `ratio` one to the other, and `owner_ratio` that of all its hotkeys together. `reward` is the mean incentive of its
    answers in [0, 1], `answered` the share of queries it answered, `valid` the share of its `images` that passed, and
    `verdicts` counts those that did not: false alarms where it `works`.
    """
    from ig_subnet.validating.records import VALID
    from ig_subnet.validating.store import ScoreStore

    rewards, verdicts = defaultdict(list), defaultdict(list)
    with ScoreStore.open_read_only(store) as records:
        for answer in records.answers():
            rewards[answer.hotkey].append((answer.incentive, answer.status == "answered"))
        for image in records.images():
            verdicts[image.hotkey].append(image.verdict)
    incentives = {neuron.hotkey: neuron.incentive for neuron in metagraph.neurons}
    honest_best = max(incentives[hotkeys[name]] for one in contestants if one.honest for name in one.names)
    rows = []
    for one in contestants:
        own = [hotkeys[name] for name in one.names]
        earned = statistics.fmean(incentives[hotkey] for hotkey in own)
        answers = [answer for hotkey in own for answer in rewards[hotkey]]
        answered = statistics.fmean(was_answered for _, was_answered in answers)
        found = Counter(verdict for hotkey in own for verdict in verdicts[hotkey])
        rows.append(
            {
                "attack": one.attack,
                "gate": gate,
                "stopped_by": one.stopped_by,
                "hotkeys": len(own),
                "earned": earned,
                "honest_best": honest_best,
                "ratio": earned / honest_best,
                "owner_ratio": len(own) * earned / honest_best,
                "goal": answered if one.goal == ANSWERED else one.goal,
                "reward": statistics.fmean(reward for reward, _ in answers),
                "answered": answered,
                "works": one.works,
                "images": found.total(),
                "valid": found[VALID] / found.total() if found else None,
                "verdicts": {verdict: count for verdict, count in found.most_common() if verdict != VALID},
            }
        )
    return rows


def both(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Of each attack its row with the gates off and that with them on, in the order of the rows."""
    on = {row["attack"]: row for row in rows if row["gate"] == "on"}
    return [(row, on[row["attack"]]) for row in rows if row["gate"] == "off"]


def table(rows: Sequence[Row]) -> str:
    """As documentation has it: Markdown, one line an attack."""
    lines = [
        "| attack | hotkeys | a hotkey earns, gates off | gates on | all together, gates on | at most | stopped by |",
        "|---|---|---|---|---|---|---|",
    ]
    for off, on in both(rows):
        goal = "" if on["goal"] is None else f"{on['goal']:.2f}"
        together = f"{on['owner_ratio']:.2f}" if on["hotkeys"] > 1 else ""
        cells = (off["attack"], str(on["hotkeys"]), f"{off['ratio']:.2f}", f"{on['ratio']:.2f}", together, goal)
        lines.append(f"| {' | '.join(cells)} | {_reasons(on)} |")
    return "\n".join(lines)


def _reasons(row: Row) -> str:
    """The verdicts of an attack's images, most frequent first; else what should have stopped it, if anything."""
    return ", ".join(f"{verdict} ({count})" for verdict, count in row["verdicts"].items()) or row["stopped_by"]


def missed(rows: Sequence[Row]) -> list[str]:
    """A sentence for every goal that was not reached with the gates on."""
    return [
        f"{row['attack']}: a hotkey earns {row['ratio']:.2f} of the best honest miner, where {row['goal']:.2f} is meant"
        for row in rows
        if row["gate"] == "on" and row["goal"] is not None and row["ratio"] > row["goal"]
    ]


def false_alarms(rows: Sequence[Row]) -> str:
    """A sentence on the images of honest work that the gates stopped."""
    work = [row for row in rows if row["gate"] == "on" and row["works"]]
    stopped: Counter[str] = Counter()
    for row in work:
        stopped.update(row["verdicts"])
    images = sum(row["images"] for row in work)
    reasons = ", ".join(f"{verdict} ({count})" for verdict, count in stopped.most_common())
    return f"honest work: {stopped.total()} of {images} images stopped" + (f": {reasons}" if reasons else "")


def draw(rows: Sequence[Row], path: Path) -> None:
    """What a hotkey earns beside the best honest miner, a pair of bars for each attack."""
    from matplotlib.figure import Figure

    pairs = both(rows)
    figure = Figure(figsize=(9, 0.26 * len(pairs) + 1.2), layout="constrained")
    axes = figure.subplots()
    places = range(len(pairs))
    for gate, shift, colour in ((0, -0.2, "#c9b8a8"), (1, 0.2, "#1f5f8b")):
        ratios = [pair[gate]["ratio"] for pair in pairs]
        label = ("all gates off", "gates on")[gate]
        axes.barh([place + shift for place in places], ratios, height=0.4, color=colour, label=label)
        for place, ratio in zip(places, ratios, strict=True):
            if ratio > AXIS_END:
                style = {"ha": "right", "va": "center", "fontsize": 7, "color": ("black", "white")[gate]}
                axes.text(AXIS_END * 0.99, place + shift, f"{ratio:.1f}", **style)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.axvline(CHEATING, color="#b03030", linewidth=0.8, linestyle="--", label="the most that cheating may earn")
    names = [off["attack"] + (f" ({off['hotkeys']} hotkeys)" if off["hotkeys"] > 1 else "") for off, _ in pairs]
    axes.set_yticks(list(places), names, fontsize=8)
    axes.set(xlim=(0, AXIS_END), ylim=(len(pairs) - 0.4, -0.6))
    axes.set_xlabel("what a hotkey earns, by the chain's incentives;\n1 is the best honest miner", fontsize=9)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(path, dpi=120)
