"""A whole round: over real axons on loopback with miners good, bad and hostile, and with faults of the validator's."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bittensor.keyfiles import Keypair
from made_up_images import DUPLICATES
from made_up_models import SIZE, BrightnessMixture, MadeUpPrompter, grey

from ig_subnet.chain.auth import BtAuthVerifier, KeypairSigner
from ig_subnet.imaging import DecoderPool
from ig_subnet.validating.answers import Ask, RoundSettings
from ig_subnet.validating.commitments import Plan, PlannedPrompt, PrompterIdentity
from ig_subnet.validating.device import Device, Models
from ig_subnet.validating.errors import NobodyAnswered, RoundError
from ig_subnet.validating.gate_settings import GateSettings
from ig_subnet.validating.gates import Check, Declared, ImageKey, Proofs
from ig_subnet.validating.history import History
from ig_subnet.validating.records import COPY, SEEN_BEFORE, PromptRow, RoundRecord
from ig_subnet.validating.regeneration import Judge, Verify
from ig_subnet.validating.round import RoundResult, is_askable, run_round
from ig_subnet.validating.rows import SMALLEST_INCENTIVE
from ig_subnet.validating.sampling import Miner, miner_seed
from protocol import Axon, Busy, Dendrite, GeneratedImage, QueryResult, QueryStatus, Target, TextToImageSynapse

SECRET = b"s" * 32
SETTINGS = RoundSettings(images=2, width=SIZE, height=SIZE, steps=None, timeout_seconds=60)
PLAN = Plan(
    hotkey="me",
    netuid=1,
    round=7,
    topic="brightness",
    prompts=tuple(
        PlannedPrompt(text=text, id=id, parents=(id, "donor"), source="made up", row=3, similarity=0.5)
        for text, id in (("prompt 1", "one"), ("prompt 12", "twelve"))
    ),
    prompter=PrompterIdentity(database="ab" * 32, model="cd" * 32),
)

Generate = Callable[[TextToImageSynapse], Awaitable[Sequence[bytes]]]


def generated(synapse: TextToImageSynapse, data: Sequence[bytes], format: str = "png") -> tuple[GeneratedImage, ...]:
    return tuple(
        GeneratedImage(format, synapse.width, synapse.height, synapse.seed_of(number), "made up", image)  # type: ignore[arg-type]
        for number, image in enumerate(data)
    )


@asynccontextmanager
async def miner(uid: int, answer: Callable[[TextToImageSynapse], Awaitable[Sequence[GeneratedImage]]]) -> AsyncIterator:
    """A miner with a real axon on loopback."""
    signer = KeypairSigner(Keypair.create_from_uri(f"//Miner{uid}"))
    axon = Axon(
        lambda synapse, caller: answer(synapse),
        signer,
        BtAuthVerifier(signer.hotkey),
        host="127.0.0.1",
        port=0,
        policy=lambda hotkey: None,
    )
    serving = asyncio.create_task(axon.serve())
    try:
        async with asyncio.timeout(30):
            await axon.started.wait()
        yield Miner(signer.hotkey, uid, Target(signer.hotkey, "127.0.0.1", axon.port))
    finally:
        await axon.stop()
        await serving


async def bright(synapse: TextToImageSynapse) -> Sequence[GeneratedImage]:
    return generated(synapse, [grey(204), grey(153)])


async def one_of_two(synapse: TextToImageSynapse) -> Sequence[GeneratedImage]:
    return generated(synapse, [grey(204, "WEBP")], "webp")


async def black(synapse: TextToImageSynapse) -> Sequence[GeneratedImage]:
    return generated(synapse, [grey(0), grey(0)])


async def bomb_and_good(synapse: TextToImageSynapse) -> Sequence[GeneratedImage]:
    return generated(synapse, [grey(204, size=(4000, 4000)), grey(255)])


async def mislabelled(synapse: TextToImageSynapse) -> Sequence[GeneratedImage]:
    return generated(synapse, [grey(255), b"\xff\xd8\xff no image"], "jpeg")


async def busy(synapse: TextToImageSynapse) -> Sequence[GeneratedImage]:
    raise Busy(1)


async def broken(synapse: TextToImageSynapse) -> Sequence[GeneratedImage]:
    raise RuntimeError("out of memory, say")


async def silent(synapse: TextToImageSynapse) -> Sequence[GeneratedImage]:
    await asyncio.sleep(3600)
    return ()


async def test_a_round_among_miners_of_every_kind(tmp_path: Path) -> None:
    kinds = [bright, one_of_two, black, bomb_and_good, mislabelled, busy, broken, silent]
    mixture = BrightnessMixture()
    me = KeypairSigner(Keypair.create_from_uri("//Validator"))
    async with AsyncExitStack() as stack:
        miners = [await stack.enter_async_context(miner(uid, kind)) for uid, kind in enumerate(kinds)]
        async with miner(50, bright) as gone:
            miners.append(gone)
        miners.append(Miner("withdrawn", 51, None))
        device = await stack.enter_async_context(Device(lambda: Models(MadeUpPrompter(), mixture)))
        decoders = await stack.enter_async_context(DecoderPool(1))
        dendrite = await stack.enter_async_context(Dendrite(me, BtAuthVerifier(me.hotkey), allow_private=True))

        async def ask(target: Target, synapse: TextToImageSynapse) -> QueryResult:
            """The dendrite's query, but with little patience for the one that never answers."""
            if target.hotkey == miners[kinds.index(silent)].hotkey:
                synapse = synapse.model_copy(update={"deadline_seconds": 0.5})
            return await dendrite.query(target, synapse)

        result = await run_round(
            PLAN,
            100,
            miners,
            secret=SECRET,
            settings=replace(SETTINGS, save_images=tmp_path),
            device=device,
            ask=ask,
            decode=decoders.decode,
        )
    rewards = {m.uid: result.observations[m.hotkey] for m in miners}
    assert rewards == pytest.approx(
        {0: 0.7, 1: 0.4, 2: SMALLEST_INCENTIVE, 3: 0.5, 4: 0, 5: 0, 6: 0, 7: 0, 50: 0, 51: 0}
    )
    statuses = {row.uid: row.status for row in result.answers}
    assert statuses == {
        **dict.fromkeys((0, 1, 2, 3, 4), QueryStatus.ANSWERED),
        5: QueryStatus.BUSY,
        6: QueryStatus.FAILED,
        7: QueryStatus.TIMEOUT,
        50: QueryStatus.UNREACHABLE,
        51: QueryStatus.UNREACHABLE,
    }
    assert (result.round.round_id, result.round.block, result.round.queried, result.round.answered) == (7, 100, 20, 10)
    assert result.round.started_at <= result.round.finished_at
    assert result.prompts == (
        PromptRow(7, 0, "brightness", "prompt 1", 0.5, "made up", "one", '["one", "donor"]'),
        PromptRow(7, 1, "brightness", "prompt 12", 0.5, "made up", "twelve", '["twelve", "donor"]'),
    )
    # Each prompt was scored in one batch, of the six images that passed the gates.
    assert mixture.batches == [(prompt.text, "brightness", 6) for prompt in result.prompts]
    of_bright = [row for row in result.images if row.hotkey == miners[0].hotkey and row.position == 0]
    assert [(row.number, row.verdict, row.format, row.bytes) for row in of_bright] == [
        (0, "valid", "png", len(grey(204))),
        (1, "valid", "png", len(grey(153))),
    ]
    assert [(row.incentive, row.total) for row in of_bright] == [
        (pytest.approx(0.8), pytest.approx(0.6)),
        (pytest.approx(0.6), pytest.approx(0.2)),
    ]
    assert [row.disagreement for row in of_bright] == [pytest.approx(0.2), pytest.approx(0.15)]
    assert of_bright[0].sha256 == hashlib.sha256(grey(204)).hexdigest()
    assert {(row.expert, row.hotkey) for row in result.expert_scores} == {
        ("brightness", miners[uid].hotkey) for uid in range(4)
    }
    assert all(row.truncated == (row.position == 1) for row in result.expert_scores)  # which reads 8 characters
    assert all((row.disagreement is None) == (row.total is None) for row in result.images)
    assert result.round.rewarder == result.rewarder.fingerprint
    assert (result.rewarder.dtype, result.rewarder.identities) == ("float32", {"brightness": "no weights"})
    verdicts = {(row.hotkey, row.number): (row.verdict, row.total) for row in result.images}
    assert verdicts[miners[3].hotkey, 0] == ("more than 1024 pixels", None)
    assert verdicts[miners[4].hotkey, 0] == ("not a jpeg file", None)
    assert verdicts[miners[4].hotkey, 1][0].startswith("does not decode")
    for row in result.answers:
        assert row.seed == miner_seed(SECRET, row.hotkey, row.position)
    # Every valid image is kept once, under its hash, and nothing else.
    assert hashes_of_files(tmp_path) == {
        f"{row.sha256}.{row.format}": row.sha256 for row in result.images if row.verdict == "valid"
    }


def hashes_of_files(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


async def decode_nothing(data: bytes, **expected: object) -> np.ndarray:
    return np.full((SIZE, SIZE, 3), data[0], dtype=np.uint8)


def answers(brightness: Callable[[Target], bytes], images: int = 2) -> Ask:
    """A miner without a wire: `brightness` gives the one byte that `decode_nothing` paints an image with."""

    async def ask(target: Target, synapse: TextToImageSynapse) -> QueryResult:
        found = generated(synapse, [brightness(target)] * images)
        return QueryResult(target, QueryStatus.ANSWERED, found, 0.1)

    return ask


MINERS = [Miner(f"hotkey {uid}", uid, Target(f"hotkey {uid}", "127.0.0.1", 1)) for uid in range(4)]


async def play(
    *,
    mixture: BrightnessMixture | None = None,
    ask: Ask | None = None,
    decode: Callable = decode_nothing,
    secret: bytes = SECRET,
    gates: GateSettings | None = None,
    history: History | None = None,
    verify: Verify | None = None,
    known: Container[str] = (),
    plan: Plan = PLAN,
) -> RoundResult:
    models = Models(MadeUpPrompter(), mixture or BrightnessMixture(), gates or GateSettings())
    async with Device(lambda: models) as device:
        return await run_round(
            plan,
            1,
            MINERS,
            secret=secret,
            settings=SETTINGS,
            device=device,
            ask=ask or answers(lambda target: b"\x80"),
            decode=decode,
            history=history,
            verify=verify,
            known=known,
        )


async def test_the_same_secret_gives_the_same_seeds_and_another_one_others() -> None:
    first, again = await play(), await play()
    other = await play(secret=b"t" * 32)
    assert [row.seed for row in first.answers] == [row.seed for row in again.answers]
    assert len({row.seed for row in first.answers + other.answers}) == 16


@pytest.mark.parametrize(
    ("text", "carried"), [("a red\ncircle", True), ("a bell\a", False), ("x" * 1025, False), ("", False)]
)
def test_what_the_wire_carries(text: str, carried: bool) -> None:
    assert is_askable(text) == carried


async def test_a_miner_that_sends_more_than_asked_earns_no_more() -> None:
    result = await play(ask=answers(lambda target: b"\xff", images=5))
    assert set(result.observations.values()) == {1.0}
    assert len(result.images) == len(MINERS) * len(PLAN.prompts) * SETTINGS.images


async def test_an_image_no_expert_can_score_earns_nothing_and_spoils_nobody() -> None:
    from ig_subnet.rewards.errors import NonFiniteScore

    def overflow(images: list) -> None:
        if any(image.getpixel((0, 0)) == (1, 1, 1) for image in images):
            raise NonFiniteScore("inf")

    poison = answers(lambda target: b"\x01" if target.hotkey == "hotkey 2" else b"\xff")
    result = await play(mixture=BrightnessMixture(before=overflow), ask=poison)
    assert result.observations == {"hotkey 0": 1.0, "hotkey 1": 1.0, "hotkey 2": 0.0, "hotkey 3": 1.0}
    assert {row.verdict for row in result.images if row.hotkey == "hotkey 2"} == {"no finite score"}


async def test_one_query_that_fails_on_this_side_does_not_stop_the_round() -> None:
    async def ask(target: Target, synapse: TextToImageSynapse) -> QueryResult:
        if target.hotkey == "hotkey 1":
            raise ZeroDivisionError
        return await answers(lambda target: b"\xff")(target, synapse)

    result = await play(ask=ask)
    assert result.observations == {"hotkey 0": 1.0, "hotkey 1": 0.0, "hotkey 2": 1.0, "hotkey 3": 1.0}


async def test_a_fault_of_the_validators_own_blames_no_miner() -> None:
    def out_of_memory(images: list) -> None:
        raise MemoryError("the device is full")

    with pytest.raises(RoundError, match="round 7 is void: MemoryError: the device is full"):
        await play(mixture=BrightnessMixture(before=out_of_memory))

    async def no_decoder(data: bytes, **expected: object) -> np.ndarray:
        raise OSError("no more processes")

    with pytest.raises(RoundError, match="round 7 is void: OSError: no more processes"):
        await play(decode=no_decoder)


async def paint(data: bytes, **expected: object) -> np.ndarray:
    """Another picture for each first byte."""
    return np.random.default_rng(data[0]).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


def pictures(*, of: dict[str, int], seconds: dict[str, float]) -> Ask:
    """Miners that answer each with two pictures of their own, or with somebody's, sooner or later."""

    async def ask(target: Target, synapse: TextToImageSynapse) -> QueryResult:
        first = 2 * of[target.hotkey] + 20 * (synapse.prompt == "prompt 12")
        data = [bytes([first]), bytes([first + 1])]
        return QueryResult(target, QueryStatus.ANSWERED, generated(synapse, data), seconds.get(target.hotkey, 1.0))

    return ask


async def test_copies_in_a_round_and_of_earlier_rounds_are_not_paid() -> None:
    of = {f"hotkey {uid}": uid for uid in range(4)} | {"hotkey 3": 0}  # 3 shows what 0 shows, and is sooner
    ask = pictures(of=of, seconds={"hotkey 3": 0.5})
    history = History(DUPLICATES)
    first = await play(ask=ask, decode=paint, gates=GateSettings(duplicates=DUPLICATES), history=history)
    assert {hotkey: reward > 0 for hotkey, reward in first.observations.items()} == {
        "hotkey 0": False,
        "hotkey 1": True,
        "hotkey 2": True,
        "hotkey 3": True,
    }
    copies = [row for row in first.images if row.hotkey == "hotkey 0"]
    assert {row.verdict for row in copies} == {COPY}
    assert json.loads(copies[0].evidence or "")["like"] == {
        "round_id": 7,
        "position": 0,
        "hotkey": "hotkey 3",
        "number": 0,
    }
    assert all(row.total is not None and row.incentive == 0 for row in copies)  # scored all the same
    assert len(history) == 0  # until the round is recorded
    history.add_round(RoundRecord(first.round, first.prompts, *(first.answers, first.images, ()), (), ()))
    gates, plan = GateSettings(duplicates=DUPLICATES), PLAN.model_copy(update={"round": 8})
    again = await play(ask=ask, decode=paint, gates=gates, history=history, plan=plan)
    assert set(again.observations.values()) == {0.0}
    assert {row.verdict for row in again.images if row.hotkey != "hotkey 0"} == {SEEN_BEFORE}


async def test_what_was_made_again_and_does_not_match_is_not_paid() -> None:
    asked: list[Declared] = []

    async def verify(round_id: int, declared: Sequence[Declared], secret: bytes, judge: Judge) -> Proofs:
        asked.extend(declared)
        assert (round_id, secret) == (PLAN.round, SECRET)
        return Proofs(
            {
                ImageKey(position, "hotkey 2", 1): Check(1, "made up", 0.1, 0.9, matches=False)
                for position in range(len(PLAN.prompts))
            }
        )

    ask = pictures(of={f"hotkey {uid}": uid for uid in range(4)}, seconds={})
    result = await play(ask=ask, decode=paint, gates=GateSettings(duplicates=DUPLICATES), verify=verify)
    assert [hotkey for hotkey, reward in result.observations.items() if reward == 0] == ["hotkey 2"]
    seeds = {row.hotkey: row.seed for row in result.answers if row.position == 0}
    one = next(image for image in asked if image.key == ImageKey(0, "hotkey 1", 1))
    assert one.asked == {seeds["hotkey 1"] + 1} and one.seed == seeds["hotkey 1"] + 1  # the first one is taken
    assert one.prompt == "prompt 1"
    assert one.model == "made up" and one.embedding.shape == (49,)


async def test_what_looks_alike_by_chance_is_paid_to_both_once_it_is_made_again() -> None:
    passes: list[set[ImageKey]] = []

    async def verify(round_id: int, declared: Sequence[Declared], secret: bytes, judge: Judge) -> Proofs:
        keys = {image.key for image in declared}
        verdicts = await judge(Proofs(), keys)
        passes.append({key for key in keys if verdicts[key].reason == COPY})
        return Proofs({key: Check(key.number, "made up", 1.0, 0.9, matches=True) for key in passes[0]})

    of = {f"hotkey {uid}": uid for uid in range(4)} | {"hotkey 3": 0}
    ask = pictures(of=of, seconds={"hotkey 3": 0.5})
    result = await play(ask=ask, decode=paint, gates=GateSettings(duplicates=DUPLICATES), verify=verify)
    assert {key.hotkey for key in passes[0]} == {"hotkey 0"}
    assert all(reward > 0 for reward in result.observations.values())


async def test_a_round_in_which_nobody_answered_is_void() -> None:
    async def unreachable(target: Target, synapse: TextToImageSynapse) -> QueryResult:
        status = QueryStatus.UNREACHABLE if target.hotkey != "hotkey 3" else QueryStatus.TIMEOUT
        return QueryResult(target, status, (), 0.1)

    with pytest.raises(
        NobodyAnswered, match=r"none of 8 queries was answered: unreachable \(6\), timeout \(2\); .*network"
    ):
        await play(ask=unreachable, known={"hotkey 1"})
    dead = await play(ask=unreachable)  # nobody has ever seen any of them alive
    assert set(dead.observations.values()) == {0.0}

    async def one(target: Target, synapse: TextToImageSynapse) -> QueryResult:
        return await (answers(lambda target: b"\xff") if target.hotkey == "hotkey 2" else unreachable)(target, synapse)

    heard = await play(ask=one, known={"hotkey 1"})
    assert heard.observations == {"hotkey 0": 0.0, "hotkey 1": 0.0, "hotkey 2": 1.0, "hotkey 3": 0.0}


async def test_a_device_that_hangs_ends_the_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ig_subnet.validating.round.SCORING_SECONDS", 0.2)
    hanging = threading.Event()
    try:
        async with Device(
            lambda: Models(MadeUpPrompter(), BrightnessMixture(lambda images: hanging.wait(60)))
        ) as device:
            with pytest.raises(RoundError, match="scoring did not come to an end"):
                await run_round(
                    PLAN,
                    1,
                    MINERS,
                    secret=SECRET,
                    settings=replace(SETTINGS, timeout_seconds=0.1),
                    device=device,
                    ask=answers(lambda target: b"\x80"),
                    decode=decode_nothing,
                )
            hanging.set()
    finally:
        hanging.set()


async def test_the_loop_goes_on_while_an_expert_works() -> None:
    """The expert only returns once the loop has done something else, and the next prompt is out meanwhile."""
    asked: list[str] = []
    second_prompt_is_out = threading.Event()

    async def ask(target: Target, synapse: TextToImageSynapse) -> QueryResult:
        asked.append(synapse.prompt)
        if len(set(asked)) == 2:
            second_prompt_is_out.set()
        return await answers(lambda target: b"\x80")(target, synapse)

    def slow(images: list) -> None:
        assert second_prompt_is_out.wait(30)

    await play(mixture=BrightnessMixture(before=slow), ask=ask)


async def test_no_callback_holds_the_loop_over_50_ms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured as the loop thread's own CPU time, so that another process cannot fail it; 48 miners, an expert that
    never lets go of the interpreter by itself."""
    longest = 0.0
    run_handle = asyncio.events.Handle._run

    def measured(handle: asyncio.events.Handle) -> None:
        nonlocal longest
        began = time.thread_time()
        run_handle(handle)
        longest = max(longest, time.thread_time() - began)

    def slow(images: list) -> None:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            pass

    image = np.random.default_rng(0).integers(0, 256, 400_000, dtype=np.uint8).tobytes()
    miners = [Miner(f"hotkey {uid}", uid, Target(f"hotkey {uid}", "127.0.0.1", 1)) for uid in range(48)]
    await play()  # what is imported on the first use is no callback of a round
    async with Device(lambda: Models(MadeUpPrompter(), BrightnessMixture(before=slow))) as device:
        monkeypatch.setattr(asyncio.events.Handle, "_run", measured)
        await run_round(
            PLAN,
            1,
            miners,
            secret=SECRET,
            settings=SETTINGS,
            device=device,
            ask=answers(lambda target: image),
            decode=decode_nothing,
        )
        monkeypatch.undo()
    assert 0 < longest < 0.05
