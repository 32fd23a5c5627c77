"""Commitments: what they are is fixed by literals, and whatever is changed afterwards is found, where it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_rounds import HOTKEY, make_commitments, make_plan

from ig_subnet.validating.commitments import (
    FIRST_HEAD,
    Plan,
    PlannedPrompt,
    PrompterIdentity,
    digest_of,
    from_lines,
    next_head,
    opened,
    to_lines,
    verify,
)
from ig_subnet.validating.records import CommitmentRow

SECRET = b"s" * 32
PLAN = Plan(
    hotkey="5F" + "x" * 46,
    netuid=1,
    round=1,
    topic="colours",
    prompts=(
        PlannedPrompt(
            text='a red circle, "café"\n',
            id="0123456789abcdef",
            parents=("0123456789abcdef", "fedcba9876543210"),
            source="pocket",
            row=3,
            similarity=0.5,
        ),
    ),
    prompter=PrompterIdentity(database="ab" * 32, model="cd" * 32),
)
CONTENT = (
    '{"hotkey":"5Fxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","netuid":1,"prompter":{"database":'
    '"abababababababababababababababababababababababababababababababab","model":'
    '"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"},"prompts":[{"id":"0123456789abcdef",'
    '"parents":["0123456789abcdef","fedcba9876543210"],"row":3,"similarity":0.5,"source":"pocket",'
    '"text":"a red circle, \\"café\\"\\n"}],"round":1,"topic":"colours"}'
)
DIGEST = "3cd96cc5f326edb63f55a577e38881218f20a2ef05ba8e7c2e8fa26cce3db4c0"
HEAD = "9669fb15fdd4c4c58f08dbcf6963dad78d12e35b37de035c723944440746be44"


def test_vectors() -> None:
    """Whoever writes a checker of their own can start from these."""
    assert PLAN.canonical() == CONTENT
    assert digest_of(SECRET, CONTENT) == DIGEST
    assert next_head(FIRST_HEAD, DIGEST) == HEAD
    assert opened(DIGEST, SECRET.hex(), CONTENT) == PLAN


@given(
    text=st.text(st.characters(codec="utf-8"), min_size=1),
    similarity=st.floats(-1, 1),
    row=st.integers(0, 2**40),
    secret=st.binary(min_size=32, max_size=32),
)
def test_any_plan_comes_back(text: str, similarity: float, row: int, secret: bytes) -> None:
    (prompt,) = PLAN.prompts
    changed = prompt.model_copy(update={"text": text, "similarity": similarity, "row": row})
    plan = PLAN.model_copy(update={"prompts": (changed,)})
    content = plan.canonical()
    assert opened(digest_of(secret, content), secret.hex(), content) == plan


@pytest.mark.parametrize(
    ("secret", "content", "reason"),
    [
        (b"t" * 32, CONTENT, "digest is not that of"),
        (SECRET, CONTENT.replace("red", "blue"), "digest is not that of"),
        (SECRET[:31], CONTENT, "secret is not 32 bytes"),
    ],
)
def test_another_plan_does_not_open_it(secret: bytes, content: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        opened(DIGEST, secret.hex(), content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{}", "no plan of a round: hotkey: Field required"),
        ("no JSON", "no plan of a round: all of it: Invalid JSON"),
        (CONTENT.replace('"netuid":1', '"netuid":"1"'), "netuid: Input should be a valid integer"),
        (CONTENT.replace('"netuid":1', '"netuid":1,"more":2'), "more: Extra inputs"),
        (CONTENT.replace('"netuid":1', '"netuid": 1'), "not written canonically"),
        (CONTENT.replace('"topic"', '"topic":"shown","topic"'), "not written canonically"),  # a key twice
        (CONTENT.replace("é", "\\u00e9"), "not written canonically"),
    ],
)
def test_a_digest_of_something_else_is_no_commitment(content: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        opened(digest_of(SECRET, content), SECRET.hex(), content)


@pytest.mark.parametrize(
    "outcomes",
    [(), (None,), ("asked", None), ("asked", "asked", "void", "asked", None), ("void", "void", None), ("asked",)],
)
def test_what_is_true_verifies_and_survives_the_file(outcomes: tuple[str | None, ...]) -> None:
    commitments = make_commitments(*outcomes)
    assert verify(commitments) == [None] * len(outcomes)
    assert from_lines(to_lines(commitments)) == commitments


def rewritten(commitment: CommitmentRow, plan: Plan, head: str) -> CommitmentRow:
    """As an insider would: another plan, with digest and head to match."""
    assert commitment.secret is not None
    digest = digest_of(bytes.fromhex(commitment.secret), plan.canonical())
    return replace(commitment, content=plan.canonical(), digest=digest, head=next_head(head, digest))


def test_every_change_is_found_where_it_is() -> None:
    commitments = make_commitments("asked", "asked", "void", "asked", None)
    second = commitments[1]
    assert second.content is not None

    def faults(place: int, **changes: object) -> dict[int, str]:
        changed = [*commitments[:place], replace(commitments[place], **changes), *commitments[place + 1 :]]
        return {number: fault for number, fault in enumerate(verify(changed)) if fault is not None}

    assert faults(1, content=second.content.replace("red", "blue")).keys() == {1}
    assert faults(1, secret="00" * 32).keys() == {1}
    assert faults(1, secret=None)[1] == "its secret is not 32 bytes in hexadecimal"
    assert faults(1, head="00" * 32).keys() == {1, 2}
    assert "hexadecimal" in faults(1, digest="no hash")[1]
    assert "neither asked nor void" in faults(1, outcome="won")[1]
    assert faults(2, outcome="asked") == {3: "round 4 was due, not round 3"}
    assert faults(1, revealed_at=None) == {1: "it was never revealed"}
    assert faults(1, round_id=3)[1] == "round 2 was due, not round 3"
    assert verify(commitments[1:])[0] == "it has number 2 where 1 is due: one is missing, or out of order"
    assert verify([commitments[0], *commitments[2:]])[1] is not None
    assert verify([commitments[1], commitments[0]]) != [None, None]


def test_the_chain_alone_does_not_hide_a_stranger_or_another_round() -> None:
    first, second = make_commitments("asked", "asked")
    stranger = rewritten(second, make_plan(2, hotkey="5G" + "b" * 46), first.head)
    assert "unlike those before it" in str(verify([first, stranger])[1])
    elsewhen = rewritten(second, make_plan(7), first.head)
    assert verify([first, elsewhen]) == [None, "what it reveals is the plan of round 7"]
    same = rewritten(second, make_plan(2, hotkey=HOTKEY, text="a blue circle"), first.head)
    assert verify([first, same]) == [None, None]  # only a head that is known from before tells
    assert same.head != second.head


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("no JSON", "line 2 is no commitment: the line: Invalid JSON"),
        ("{}", "line 2 is no commitment: id: Field required"),
        ('{"id": "1"}', "line 2 is no commitment: id: Input should be a valid integer"),
    ],
)
def test_a_file_that_is_none_says_in_which_line(line: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        from_lines(to_lines(make_commitments("asked")) + line + "\n")
