"""What every contestant earned, from the chain's incentives; as rows, a table, and a plot."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adversaries.roster import Contestant

if TYPE_CHECKING:
    from ig_subnet.chain import MetagraphSnapshot

Row = dict[str, Any]


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
    answers in [0, 1], `answered` the share of queries it answered, `valid` the share of its images that passed, and
    `verdicts` counts those that did not.
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
                "goal": one.goal,
                "reward": statistics.fmean(reward for reward, _ in answers),
                "answered": statistics.fmean(answered for _, answered in answers),
                "valid": found[VALID] / found.total() if found else None,
                "verdicts": {verdict: count for verdict, count in found.most_common() if verdict != VALID},
            }
        )
    return rows
