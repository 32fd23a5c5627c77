"""The adapters of the published data sets, on small files of exactly their schema."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from ig_subnet.rewards import Mixture
from ig_subnet.studies.agreement import score_preferences
from ig_subnet.studies.errors import SourceError, StudyError
from ig_subnet.studies.preferences import PUBLISHED, Place, Preferences, load_preferences


def encoded(brightness: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (24, 16), (brightness,) * 3).save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return file.getvalue()


@pytest.fixture
def image_reward_db(tmp_path: Path) -> Path:
    """Three images of one prompt, ranked 1, 2, 2, in one archive; two of another, ranked 2, 1, unpacked."""
    folder = tmp_path / "ImageRewardDB"
    rows = []
    for part, prompt, brightness, rank in (
        (1, 0, 200, 1),
        (1, 0, 100, 2),
        (1, 0, 150, 2),
        (2, 1, 50, 2),
        (2, 1, 90, 1),
    ):
        name = f"{prompt}-{brightness}.webp"
        rows.append(
            {
                "image_path": f"images/test/test_{part}/{name}",
                "prompt_id": f"00{prompt}",
                "prompt": f"prompt {prompt}",
                "classification": "People",
                "image_amount_in_total": 3 - prompt,
                "rank": rank,
                "overall_rating": 5,
                "image_text_alignment_rating": 4,
                "fidelity_rating": 6,
            }
        )
        directory = folder / f"images/test/test_{part}"
        directory.parent.mkdir(parents=True, exist_ok=True)
        if part == 1:
            with zipfile.ZipFile(f"{directory}.zip", "a") as archive:
                archive.writestr(f"test_1/{name}", encoded(brightness, "WEBP"))
        else:
            directory.mkdir(exist_ok=True)
            (directory / name).write_bytes(encoded(brightness, "WEBP"))
    pa.parquet.write_table(pa.Table.from_pylist(rows), folder / "metadata-test.parquet")
    return folder


@pytest.fixture
def hpdv2(tmp_path: Path) -> Path:
    """Three images of one prompt, of which people rank two as equals."""
    folder = tmp_path / "HPDv2"
    folder.mkdir()
    names = [f"{number:05d}.jpg" for number in range(3)]
    entry = {
        "prompt": "a fox",
        "image_path": names,
        "rank": [2, 1, 2],
        "raw_annotations": [{"rank": [2, 1, 3], "user_hash": "ab"}],
    }
    (folder / "test.json").write_text(json.dumps([entry]))
    with tarfile.open(folder / "test.tar.gz", "w:gz") as archive:
        for name, brightness in zip(names, (100, 200, 150), strict=True):
            content = encoded(brightness, "JPEG")
            member = tarfile.TarInfo(f"test/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return folder


def pick_a_pic_row(number: int, brightness: tuple[int, int], label: float, has_label: bool = True) -> dict[str, Any]:
    """Images are called by their brightness, so that rows can share them."""
    zero, one = brightness
    return {
        "are_different": label != 0.5,
        "best_image_uid": {1.0: f"uid-{zero}", 0.0: f"uid-{one}"}.get(label, "tie"),
        "caption": f"caption {number}",
        "created_at": datetime(2023, 5, 1, tzinfo=UTC),
        "has_label": has_label,
        "image_0_uid": f"uid-{zero}",
        "image_0_url": "https://example.org/0",
        "image_1_uid": f"uid-{one}",
        "image_1_url": "https://example.org/1",
        "jpg_0": encoded(zero, "JPEG"),
        "jpg_1": encoded(one, "JPEG"),
        "label_0": label,
        "label_1": 1 - label,
        "model_0": "a",
        "model_1": "b",
        "ranking_id": number,
        "user_id": 7,
        "num_example_per_prompt": 1,
    }


@pytest.fixture
def pick_a_pic(tmp_path: Path) -> Path:
    folder = tmp_path / "pickapic_v2" / "data"
    folder.mkdir(parents=True)
    rows = [
        pick_a_pic_row(0, (200, 100), 1.0),
        pick_a_pic_row(0, (150, 200), 0.0),  # shares an image with the first
        pick_a_pic_row(1, (80, 90), 0.5),
        pick_a_pic_row(2, (10, 20), 0.0, has_label=False),
    ]
    for split in ("test_unique", "validation_unique"):
        pa.parquet.write_table(pa.Table.from_pylist(rows), folder / f"{split}-00000-of-00001-ecef20a3469ae6e6.parquet")
    return folder.parent


def brightness_of(
    preferences: Preferences, mixture: Mixture, folder: Path
) -> tuple[list[float], list[tuple[int, int]]]:
    """Each image's mean pixel, through the scores of the made-up expert; and the pairs."""
    scored = score_preferences(preferences, mixture, folder, batch_size=4)
    assert not scored.missing
    pairs = scored.pairs
    return [25.5 * value for value in scored.table["brightness"].to_pylist()], [
        (int(first), int(second)) for first, second in zip(pairs.first, pairs.second, strict=True)
    ]


def test_image_reward_db(image_reward_db: Path, mixture: Mixture, tmp_path: Path) -> None:
    preferences = load_preferences("image_reward_db", str(image_reward_db))
    brightness, pairs = brightness_of(preferences, mixture, tmp_path / "parts")
    assert brightness == pytest.approx([200, 100, 150, 50, 90], abs=0.5)
    assert pairs == [(0, 1), (0, 2), (3, 4)]  # images of equal rank make no pair
    assert preferences.pairs.label.tolist() == [1, 1, 0] and preferences.pairs.prompt.tolist() == [0, 0, 1]
    assert [item.prompt for item in preferences.items] == ["prompt 0"] * 3 + ["prompt 1"] * 2
    assert (preferences.name, preferences.counting) == ("image_reward_db", "strict")


def test_hpdv2(hpdv2: Path, mixture: Mixture, tmp_path: Path) -> None:
    preferences = load_preferences("hpdv2", str(hpdv2))
    brightness, pairs = brightness_of(preferences, mixture, tmp_path / "parts")
    assert brightness == pytest.approx([100, 200, 150], abs=1)
    assert pairs == [(0, 1), (0, 2), (1, 2)] and preferences.pairs.label.tolist() == [0, 0.5, 1]
    assert preferences.counting == "rankings"


def test_pick_a_pic(pick_a_pic: Path, mixture: Mixture, tmp_path: Path) -> None:
    preferences = load_preferences("pick_a_pic", str(pick_a_pic))
    brightness, pairs = brightness_of(preferences, mixture, tmp_path / "parts")
    assert brightness == pytest.approx([200, 100, 150, 80, 90], abs=1)  # the shared image once, the unlabelled row not
    assert pairs == [(0, 1), (2, 0), (3, 4)]
    assert preferences.pairs.label.tolist() == [1, 0, 0.5] and preferences.pairs.prompt.tolist() == [0, 0, 1]
    assert preferences.remarks == ("1 rows have no label",) and preferences.counting == "tie threshold"
    assert load_preferences("pick_a_pic", str(pick_a_pic), "validation").split == "validation"


def test_unpacked_images_are_read_where_they_lie(hpdv2: Path, mixture: Mixture, tmp_path: Path) -> None:
    with tarfile.open(hpdv2 / "test.tar.gz") as archive:
        archive.extractall(hpdv2, filter="data")
    (hpdv2 / "test.tar.gz").unlink()
    brightness, _ = brightness_of(load_preferences("hpdv2", str(hpdv2)), mixture, tmp_path / "parts")
    assert brightness == pytest.approx([100, 200, 150], abs=1)


def test_missing_images_are_told_and_their_pairs_left_out(
    image_reward_db: Path, mixture: Mixture, tmp_path: Path
) -> None:
    (image_reward_db / "images/test/test_2/1-50.webp").unlink()
    preferences = load_preferences("image_reward_db", str(image_reward_db))
    scored = score_preferences(preferences, mixture, tmp_path / "parts", batch_size=4)
    assert scored.missing == {"images/test/test_2/1-50.webp": "cannot be read (No such file or directory)"}
    assert len(scored.pairs) == 2 and scored.leads("brightness") == pytest.approx([100 / 25.5, 50 / 25.5], abs=0.02)
    with pytest.raises(StudyError, match="no pair has scores for both images"):
        pairs = preferences.pairs.where(preferences.pairs.prompt == 1)
        only = Preferences("x", "test", "these", preferences.items, pairs, "strict")
        score_preferences(only, mixture, tmp_path / "others", batch_size=4)


def test_the_first_prompts_bring_their_images_along(pick_a_pic: Path, image_reward_db: Path) -> None:
    first = load_preferences("image_reward_db", str(image_reward_db)).first(1)
    assert len(list(first.items)) == first.items.count == 3 and first.pairs.second.tolist() == [1, 2]
    everything = load_preferences("pick_a_pic", str(pick_a_pic))
    assert np.array_equal(everything.first(99).pairs.first, everything.pairs.first)


@pytest.mark.parametrize(
    ("name", "where", "split", "message"),
    [
        (
            "imagenet",
            ".",
            "test",
            "no data set 'imagenet' of human preferences: use image_reward_db, hpdv2",
        ),
        ("hpdv2", "nowhere", "test", "hpdv2=nowhere: no such folder"),
        ("hpdv2", ".", "validation", "hpdv2 has no validation split"),
        ("hpdv2", "hub@main", "test", "give a commit of 40 hexadecimal digits"),
        ("pick_a_pic", "{tmp_path}", "test", "has no test_unique-"),
        ("image_reward_db", "{tmp_path}", "test", "metadata-test.parquet does not exist: .* laid out as zai-org/Image"),
        ("image_reward_db", "hub", "test", "cannot get metadata-test.parquet of zai-org/ImageRewardDB@ce70065c88f1"),
    ],
)
def test_what_cannot_be_had_is_named(name: str, where: str, split: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=message):
        load_preferences(name, where.format(tmp_path=tmp_path), split)


Damage = Callable[[Path], object]


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("hpdv2", lambda folder: (folder / "test.json").write_text('[{"prompt": "x"}]'), "no list of objects with"),
        (
            "hpdv2",
            lambda folder: (folder / "test.json").write_text('[{"prompt": "x", "image_path": ["a"], "rank": []}]'),
            "prompt 0 has 1 images but 0 ranks",
        ),
        ("hpdv2", lambda folder: (folder / "test.tar.gz").write_bytes(b"?"), "test.tar.gz cannot be read"),
        (
            "image_reward_db",
            lambda folder: pa.parquet.write_table(pa.table({"rank": [1]}), folder / "metadata-test.parquet"),
            "has no column image_path, prompt_id, prompt; its columns are rank",
        ),
        ("image_reward_db", lambda folder: (folder / "images/test/test_1.zip").write_bytes(b"?"), "zip cannot be read"),
        (
            "image_reward_db",
            lambda folder: pa.parquet.write_table(
                pa.table({"image_path": ["../x.webp"], "prompt_id": ["a"], "prompt": ["b"], "rank": [1]}),
                folder / "metadata-test.parquet",
            ),
            "'../x.webp' leads out of the data set",
        ),
        (
            "pick_a_pic",
            lambda folder: pa.parquet.write_table(
                pa.Table.from_pylist([pick_a_pic_row(0, (1, 2), 0.25)]), next(folder.rglob("test_unique*"))
            ),
            "label_0 0.25 and label_1 0.75 are no choice",
        ),
        (
            "pick_a_pic",
            lambda folder: pa.parquet.write_table(
                pa.Table.from_pylist([pick_a_pic_row(0, (1, 2), 1.0)]).drop_columns(["jpg_0", "jpg_1"]),
                next(folder.rglob("test_unique*")),
            ),
            "has no column jpg_0, jpg_1",
        ),
    ],
)
def test_another_schema_is_refused(name: str, damage: Damage, message: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    damage(folder)
    with pytest.raises(SourceError, match=message):
        list(load_preferences(name, str(folder)).items)


def test_the_hub_is_asked_at_a_pinned_commit_alone(monkeypatch: pytest.MonkeyPatch, hpdv2: Path) -> None:
    asked = []

    def download(repository: str, name: str, *, repo_type: str, revision: str) -> str:
        asked.append((repository, name, repo_type, revision))
        return str(hpdv2 / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    commit = "0123456789" * 4
    assert len(list(load_preferences("hpdv2", f"hub@{commit}").items)) == 3
    assert asked == [("ymhao/HPDv2", name, "dataset", commit) for name in ("test.json", "test.tar.gz")]
    assert str(Place("ymhao/HPDv2", None, commit)) == "ymhao/HPDv2@012345678901"
    assert all(len(published.revision) == 40 for published in PUBLISHED.values())
