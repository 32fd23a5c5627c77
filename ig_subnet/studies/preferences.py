"""Human preferences: pairs of images of one prompt, of which people preferred one, from the published data sets.

image_reward_db   ImageRewardDB, test or validation: people ranked the images of a prompt, ties allowed
hpdv2             HPDv2, test: the averaged ranking of nine images by ten people
pick_a_pic        Pick-a-Pic v2, test_unique or validation_unique: two images, one preferred or neither

A data set is read from a folder that is laid out as its repository is, or from the hub at a pinned commit, and from
there only if that is what was asked for. Images are not looked at here: one that is missing shows in the scores.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ig_subnet.studies.errors import SourceError
from ig_subnet.studies.sources import Item, Items
from ig_subnet.studies.tables import open_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

Counting = Literal["strict", "rankings", "tie threshold"]
"""How a data set's authors count agreement with its pairs: see `ig_subnet.studies.agreement.credits`."""
Split = Literal["test", "validation"]

COMMIT = re.compile("[0-9a-f]{40}")
PICK_A_PIC_IMAGES = ("caption", "image_0_uid", "image_1_uid")


@dataclass(frozen=True)
class Pairs:
    """P pairs of images of one prompt each; `first` and `second` are the images' places among the items, int64 [P].

    `label`, float64 [P], is 1 where the first is preferred, 0 where the second is, 0.5 where neither. `prompt`, int64
    [P], is the same number for pairs of the same prompt; `kind`, [P], names what kind of pair it is, "" if nobody says.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    label: NDArray[np.float64]
    prompt: NDArray[np.int64]
    kind: NDArray[np.str_]

    @staticmethod
    def of(rows: Sequence[tuple[int, int, float, int, str]]) -> Pairs:
        """From rows of first, second, label, prompt and kind."""
        first, second, label, prompt, kind = zip(*rows, strict=True) if rows else ((), (), (), (), ())
        return Pairs(
            np.array(first, np.int64),
            np.array(second, np.int64),
            np.array(label, np.float64),
            np.array(prompt, np.int64),
            np.array(kind, np.str_),
        )

    def __len__(self) -> int:
        return len(self.label)

    def where(self, chosen: NDArray[np.bool_]) -> Pairs:
        """Those pairs for which `chosen`, bool [P], is true."""
        return Pairs(
            self.first[chosen], self.second[chosen], self.label[chosen], self.prompt[chosen], self.kind[chosen]
        )


@dataclass(frozen=True)
class Preferences:
    """A split of a data set of pairs; each image is one of the `items`, once a prompt. `source` says which version of
    what it is, and `remarks` what of it is no preference.
    """

    name: str
    split: str
    source: str
    items: Items
    pairs: Pairs
    counting: Counting
    remarks: tuple[str, ...] = ()

    def first(self, prompts: int) -> Preferences:
        """Those of the first so many prompts, and their images."""
        pairs = self.pairs.where(self.pairs.prompt < prompts)
        used = np.unique(np.concatenate([pairs.first, pairs.second]))
        last, wanted = int(used.max(initial=-1)) + 1, set(used.tolist())
        items = Items(
            self.items.source,
            len(used),
            lambda: (item for place, item in enumerate(itertools.islice(self.items, last)) if place in wanted),
        )
        moved = replace(pairs, first=np.searchsorted(used, pairs.first), second=np.searchsorted(used, pairs.second))
        return replace(self, items=items, pairs=moved)


@dataclass(frozen=True)
class Published:
    """A published data set. `revision` is the commit that `hub` alone stands for; `read` takes the files' place."""

    repository: str
    revision: str
    splits: tuple[Split, ...]
    read: Callable[[Place, Split], Preferences]


@dataclass(frozen=True)
class Place:
    """Where a data set's files are: a local folder, or a repository of the hub at a commit."""

    repository: str
    folder: Path | None
    revision: str | None

    def __str__(self) -> str:
        return self.folder.name if self.folder is not None else f"{self.repository}@{(self.revision or '')[:12]}"

    def file(self, name: str) -> Path:
        """The file of that name in the repository, downloaded if it has to be. Raises `SourceError`."""
        if self.folder is not None:
            if not (path := self.folder / name).is_file():
                raise SourceError(f"{path} does not exist: {self.folder} must be laid out as {self.repository} is")
            return path
        from huggingface_hub import hf_hub_download

        try:
            return Path(hf_hub_download(self.repository, name, repo_type="dataset", revision=self.revision))
        except (OSError, ValueError) as error:
            raise SourceError(
                f"cannot get {name} of {self}: {str(error).splitlines()[0]}; check the network and HF_HUB_OFFLINE, or "
                "give a local folder"
            ) from error

    def unpacked(self, folder: str) -> Path | None:
        """Where the files of an archive lie that somebody has unpacked in a local folder; None where nobody has."""
        return path if self.folder is not None and (path := self.folder / folder).is_dir() else None


def load_preferences(name: str, where: str, split: Split = "test") -> Preferences:
    """The data set `name` from a folder, from "hub" at the commit this project pins, or from "hub@<commit>".

    Raises `SourceError` for an unknown data set or split, files that are missing, and tables of another schema.
    """
    if name not in PUBLISHED:
        raise SourceError(f"no data set {name!r} of human preferences: use {', '.join(PUBLISHED)}")
    published = PUBLISHED[name]
    if split not in published.splits:
        raise SourceError(f"{name} has no {split} split with these labels: use {' or '.join(published.splits)}")
    if where == "hub" or where.startswith("hub@"):
        revision = where.removeprefix("hub").removeprefix("@") or published.revision
        if not COMMIT.fullmatch(revision):
            raise SourceError(f"{name}={where}: give a commit of 40 hexadecimal digits; branches and tags can move")
        return published.read(Place(published.repository, None, revision), split)
    if not (folder := Path(where).expanduser()).is_dir():
        raise SourceError(f"{name}={where}: no such folder; give one, or `hub`")
    return published.read(Place(published.repository, folder, None), split)


def _image_reward_db(place: Place, split: Split) -> Preferences:
    """Xu et al., https://arxiv.org/abs/2304.05977. Images lie in `images/<split>/<split>_<n>`, or in a .zip of it."""
    name = f"metadata-{split}.parquet"
    rows = list(_rows(place.file(name), ("image_path", "prompt_id", "prompt", "rank")))
    prompts: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        prompts.setdefault(row["prompt_id"], []).append(number)
    pairs = [
        (one, other, float(rows[one]["rank"] < rows[other]["rank"]), prompt, "")
        for prompt, numbers in enumerate(prompts.values())
        for one, other in itertools.combinations(numbers, 2)
        if rows[one]["rank"] != rows[other]["rank"]  # images that people ranked as equals make no pair
    ]

    def read() -> Iterator[Item]:
        with contextlib.ExitStack() as opened:
            folders: dict[str, Members] = {}
            for row in rows:
                path = PurePosixPath(row["image_path"])
                if path.is_absolute() or ".." in path.parts:  # a stranger's table names no file of this machine
                    raise SourceError(f"{place}/{name}: image_path {row['image_path']!r} leads out of the data set")
                folder = str(path.parent)
                if folder not in folders:
                    unpacked = place.unpacked(folder)
                    folders[folder] = _files(unpacked) if unpacked else _zip(place.file(f"{folder}.zip"), opened)
                yield Item(str(path), (row["prompt"] or "").strip(), folders[folder](path.name))

    items = Items(f"{place}/{name}", len(rows), read)
    return Preferences("image_reward_db", split, items.source, items, Pairs.of(pairs), "strict")


def _hpdv2(place: Place, split: Split) -> Preferences:
    """Wu et al., https://arxiv.org/abs/2306.09341. Images lie in `test`, or in `test.tar.gz`."""
    path = place.file("test.json")
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        prompts = [(entry["prompt"], list(entry["image_path"]), list(entry["rank"])) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(
            f"{path} is no list of objects with prompt, image_path and rank, as HPDv2's is ({error!r})"
        ) from error
    images: list[tuple[str, str]] = []
    pairs = []
    for number, (prompt, names, ranks) in enumerate(prompts):
        if len(names) != len(ranks):
            raise SourceError(f"{path}: prompt {number} has {len(names)} images but {len(ranks)} ranks")
        for one, other in itertools.combinations(range(len(names)), 2):
            label = 0.5 if ranks[one] == ranks[other] else float(ranks[one] < ranks[other])
            pairs.append((len(images) + one, len(images) + other, label, number, ""))
        images += [(name, prompt) for name in names]

    def read() -> Iterator[Item]:
        unpacked = place.unpacked("test")
        members = _files(unpacked) if unpacked else _tar(place.file("test.tar.gz"))
        for name, prompt in images:
            yield Item(name, prompt.strip(), members(PurePosixPath(name).name))

    items = Items(f"{place}/test.json", len(images), read)
    return Preferences("hpdv2", split, items.source, items, Pairs.of(pairs), "rankings")


def _pick_a_pic(place: Place, split: Split) -> Preferences:
    """Kirstain et al., https://arxiv.org/abs/2305.01569. Rows hold their images; those of one prompt may share some."""
    name = f"{split}_unique"
    if place.folder is None:
        paths = [place.file(f"default/{name}/0000.parquet")]
    else:  # in the repository itself, file names end with checksums; the hub's conversion has a folder a split
        paths = sorted(place.folder.rglob(f"{name}-*.parquet")) or sorted(place.folder.rglob(f"{name}/*.parquet"))
    if not paths:
        raise SourceError(f"{place.folder} has no {name}-*.parquet, nor a folder {name} with .parquet files")
    rows = [row for path in paths for row in _rows(path, (*PICK_A_PIC_IMAGES, "label_0", "label_1", "has_label"))]
    prompts: dict[str, int] = {}
    images: dict[tuple[str, str], int] = {}
    firsts: set[tuple[int, int]] = set()  # rows and sides where an image of a prompt stands for the first time
    pairs = []
    for number, row in enumerate(rows):
        if not row["has_label"]:
            continue
        if (row["label_0"], row["label_1"]) not in ((1.0, 0.0), (0.0, 1.0), (0.5, 0.5)):
            raise SourceError(
                f"{name} row {number}: label_0 {row['label_0']} and label_1 {row['label_1']} are no choice"
            )
        places = []
        for side in (0, 1):
            image = (row["caption"], row[f"image_{side}_uid"])
            if image not in images:
                images[image] = len(images)
                firsts.add((number, side))
            places.append(images[image])
        pairs.append((places[0], places[1], row["label_0"], prompts.setdefault(row["caption"], len(prompts)), ""))

    def read() -> Iterator[Item]:
        contents = itertools.chain.from_iterable(_rows(path, (*PICK_A_PIC_IMAGES, "jpg_0", "jpg_1")) for path in paths)
        for number, row in enumerate(contents):
            for side in (0, 1):
                if (number, side) in firsts:
                    yield Item(row[f"image_{side}_uid"], (row["caption"] or "").strip(), row[f"jpg_{side}"])

    items = Items(f"{place}/{name}", len(images), read)
    remarks = (f"{len(rows) - len(pairs):,} rows have no label",) if len(rows) > len(pairs) else ()
    return Preferences("pick_a_pic", split, items.source, items, Pairs.of(pairs), "tie threshold", remarks)


PUBLISHED: Mapping[str, Published] = {
    "image_reward_db": Published(
        "zai-org/ImageRewardDB", "ce70065c88f101956e294bb65f78879ef89d68f9", ("test", "validation"), _image_reward_db
    ),
    "hpdv2": Published("ymhao/HPDv2", "bb0f2563e451e11c3f376b2ba93615db00e042e1", ("test",), _hpdv2),
    # The hub's own conversion to Parquet (refs/convert/parquet), whose file names have no checksums.
    "pick_a_pic": Published(
        "yuvalkirstain/pickapic_v2", "f935705d28085295ef050ccc20269fd4f4ffeb57", ("test", "validation"), _pick_a_pic
    ),
}

Members = Callable[[str], "bytes | Path"]
"""The file of a name, as bytes or a path; a path where nothing is for one that is missing."""


def _files(folder: Path) -> Members:
    return lambda name: folder / name


def _zip(path: Path, opened: contextlib.ExitStack) -> Members:
    try:
        archive = opened.enter_context(zipfile.ZipFile(path))
    except (OSError, zipfile.BadZipFile) as error:
        raise SourceError(f"{path} cannot be read ({error}): fetch it again") from error
    members = {PurePosixPath(member).name: member for member in archive.namelist()}
    return lambda name: archive.read(members[name]) if name in members else path / name


def _tar(path: Path) -> Members:
    """All of it in memory, 158 MB of HPDv2's test: a compressed one can only be read from front to back."""
    try:
        with tarfile.open(path) as archive:
            found = {
                PurePosixPath(member.name).name: content.read()
                for member in archive
                if (content := archive.extractfile(member)) is not None
            }
    except (OSError, EOFError, tarfile.TarError) as error:
        raise SourceError(f"{path} cannot be read ({error}): fetch it again") from error
    return lambda name: found.get(name, path / name)


def _rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows of a table of these columns, a few at a time, for they may hold images. Raises `SourceError`."""
    table = open_table(path)
    if missing := [name for name in columns if name not in table.columns]:
        raise SourceError(f"{path} has no column {', '.join(missing)}; its columns are {', '.join(table.columns)}")
    try:
        yield from table.rows(columns)
    except (OSError, ValueError) as error:  # Arrow's errors are ValueErrors
        raise SourceError(f"{path} cannot be read: {error}") from error
