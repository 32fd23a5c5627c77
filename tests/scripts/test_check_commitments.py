"""scripts/check_commitments.py: all is well, something does not fit, or it could not be checked; and a real chain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from localnet_chain import ss58
from made_up_rounds import HOTKEY, make_commitments, make_plan

from ig_subnet.chain import CommitmentPublished, create_wallet, open_chain
from ig_subnet.localnet import Genesis, LocalNode
from ig_subnet.validating.commitments import FIRST_HEAD, digest_of, next_head, to_lines
from ig_subnet.validating.records import CommitmentRow

COMMITMENTS = make_commitments("asked", "void", "asked", None)


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("check_commitments")


@pytest.fixture
def written(tmp_path: Path) -> Callable[[Sequence[CommitmentRow]], str]:
    def write(commitments: Sequence[CommitmentRow]) -> str:
        path = tmp_path / "commitments.jsonl"
        path.write_text(to_lines(commitments), encoding="utf-8")
        return str(path)

    return write


Written = Callable[[Sequence[CommitmentRow]], str]
Captured = pytest.CaptureFixture[str]


def test_all_is_well(script: ModuleType, written: Written, capsys: Captured) -> None:
    assert script.main([written(COMMITMENTS)]) == 0
    assert capsys.readouterr().out == (
        "4 commitments fit, of rounds 1 to 3: 2 asked, 1 void, 1 not revealed yet; newest head "
        f"{COMMITMENTS[-1].head}\n"
    )


def test_what_does_not_fit_is_named_with_its_round(script: ModuleType, written: Written, capsys: Captured) -> None:
    third = COMMITMENTS[2]
    assert third.content is not None
    changed = [*COMMITMENTS[:2], replace(third, content=third.content.replace("red", "blue")), COMMITMENTS[3]]
    assert script.main([written(changed)]) == 1
    assert "round 2 (commitment 3): its digest is not that of its secret" in capsys.readouterr().err
    dropped = [COMMITMENTS[0], *COMMITMENTS[2:]]
    assert script.main([written(dropped)]) == 1
    assert "round 2 (commitment 3): it has number 3 where 2 is due" in capsys.readouterr().err
    assert script.main([written(make_commitments("asked") * 30)]) == 1
    assert capsys.readouterr().err.endswith("\nand 9 more\n")


def test_a_known_head_tells_what_a_rewritten_file_hides(script: ModuleType, written: Written, capsys: Captured) -> None:
    path, known = written(COMMITMENTS), COMMITMENTS[2].head
    assert script.main([path, "--head", f"0x{known.upper()}"]) == 0
    assert "the head given is that of commitment 3, to round 2: all up to it is unchanged" in capsys.readouterr().out
    secret, content = "07" * 32, make_plan(1, text="a blue circle").canonical()
    digest = digest_of(bytes.fromhex(secret), content)
    rewritten = CommitmentRow(
        1, 1, 10.0, 101, digest, next_head(FIRST_HEAD, digest), secret, content, revealed_at=15.0, outcome="asked"
    )
    path = written([rewritten])
    assert script.main([path]) == 0  # it fits by itself
    assert script.main([path, "--head", known]) == 1
    assert f"no commitment has the head {known}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("", "holds no commitment"), ("{}\n", "line 1 is no commitment: id"), (b"\xff\xfe", "can't decode")],
)
def test_a_file_that_is_none(
    script: ModuleType, tmp_path: Path, capsys: Captured, content: str | bytes, complaint: str
) -> None:
    path = tmp_path / "commitments.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert script.main([str(path)]) == 1
    assert complaint in capsys.readouterr().err


def test_what_cannot_be_checked_has_a_status_of_its_own(
    script: ModuleType, written: Written, tmp_path: Path, capsys: Captured
) -> None:
    assert script.main([str(tmp_path / "nowhere.jsonl")]) == 2
    assert "nowhere.jsonl" in capsys.readouterr().err
    path = written(COMMITMENTS)
    for usage in ([path, "--head", "abc"], [path, "--head", "0" * 64, "--hotkey", HOTKEY], []):
        with pytest.raises(SystemExit) as ended:
            script.main(usage)
        assert ended.value.code == 2
        assert "usage:" in capsys.readouterr().err
    assert script.main([path, "--hotkey", HOTKEY, "--network", "nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err
    assert script.main([path, "--hotkey", "5" * 48]) == 1
    assert f"these commitments are of {HOTKEY} on subnet 1" in capsys.readouterr().err
    assert script.main([written(COMMITMENTS[3:]), "--hotkey", HOTKEY]) == 1


async def test_the_head_on_the_chain_is_compared(
    script: ModuleType, written: Written, tmp_path: Path, capsys: Captured
) -> None:
    genesis = {
        "accounts": {"//Owner": 1000},
        "subnets": [
            {"netuid": 1, "owner": "//Owner", "neurons": [{"hotkey": "//Validator", "coldkey": "//Owner", "stake": 9}]}
        ],
    }
    wallet = create_wallet("owner", "validator", tmp_path, coldkey_uri="//Owner", hotkey_uri="//Validator")
    rows = make_commitments("asked", "asked", hotkey=ss58("Validator"))
    async with LocalNode(Genesis.parse(genesis), instant_seal=True) as node:
        where = ["--hotkey", ss58("Validator"), "--network", node.endpoint]

        async def checked(commitments: Sequence[CommitmentRow]) -> int:
            return await asyncio.to_thread(script.main, [written(commitments), *where])

        assert await checked(rows) == 1
        assert "has committed nothing on subnet 1" in capsys.readouterr().err
        async with open_chain(node.endpoint, 1, wallet) as chain:
            assert isinstance(await chain.publish_commitment(bytes.fromhex(rows[1].head)), CommitmentPublished)
        assert await checked(rows) == 0
        assert "on the chain since block" in capsys.readouterr().out
        assert await checked(rows[:1]) == 1
        assert "no commitment has the head" in capsys.readouterr().err
