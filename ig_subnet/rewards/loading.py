"""Finding and reading model files: a hub id at a pinned revision, or a local directory in the published layout.

Nothing is fetched that was not named, nothing is executed (safetensors, or `weights_only=True`), and no tensor is
silently missing, extra or of the wrong shape.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from loguru import logger
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ig_subnet.rewards.errors import ConfigurationError, WeightsMismatch, WeightsNotFound, WeightsUnreadable
from ig_subnet.rewards.published import PublishedFiles, Source

PACKAGE_SCHEME = "package:"
HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")


@dataclass(frozen=True)
class WeightFiles:
    """The files of one model. `identity` says which weights these are, and is recorded with every score.

    It is the hub id and revision, or the directory and the beginning of a SHA-256 over the files in it that experts
    read. `layout` names the files of the published layout.
    """

    identity: str
    paths: Mapping[str, Path]
    layout: tuple[str, ...] = ()

    def __contains__(self, name: str) -> bool:
        return name in self.paths

    def path(self, *names: str) -> Path:
        """Path of the first of `names` that is there. Raises `WeightsNotFound` when none is."""
        for name in names:
            if name in self.paths:
                return self.paths[name]
        there = ", ".join(sorted(self.paths)[:5]) + ", ..." * (len(self.paths) > 5)
        raise WeightsNotFound(
            f"{self.identity} has no file {' or '.join(names)} (it has {there or 'none at all'}); "
            "put it there, in the published layout"
        )

    def tensors(self, name: str) -> Path:
        """Path of a checkpoint, which may also be stored as .safetensors under the same name."""
        return self.path(name, _twin(name))

    def read_json(self, name: str) -> dict[str, Any]:
        """Contents of a JSON object. Raises `WeightsUnreadable` when it is not one."""
        path = self.path(name)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise WeightsUnreadable(f"{path} is not valid JSON ({error}); fetch it again") from error
        if not isinstance(content, dict):
            raise WeightsUnreadable(f"{path} holds a {type(content).__name__}, not a JSON object; fetch it again")
        return content


def locate(published: PublishedFiles, weights: str | Path | None = None, revision: str | None = None) -> WeightFiles:
    """Files of an expert: from `weights`, or its published files when None.

    `weights` is a directory, `package:<path inside ig_subnet>`, or a hub id. A hub id other than the expert's default
    needs a `revision`, so that two validators with one configuration run the same weights.
    """
    name = str(weights or published.default)
    if name.startswith(PACKAGE_SCHEME):
        directory = Path(__file__).parents[1].joinpath(name.removeprefix(PACKAGE_SCHEME))
        if not directory.is_dir():
            raise WeightsNotFound(f"{name} is not in this installation ({directory} is missing); install it again")
        return _list_directory(directory, name, published)
    if Path(name).is_dir():
        return _list_directory(Path(name), str(Path(name).resolve()), published)
    if Path(name).is_file():
        raise WeightsNotFound(f"{name} is a file; name the directory that holds it, in the published layout")
    if not HUB_ID.fullmatch(name):
        raise WeightsNotFound(f"no directory {name}, and it is not a hub id (owner/name) either; check the path")
    if name == published.default and revision is None:
        sources: tuple[Source, ...] = published.sources
    elif revision is None:
        raise ConfigurationError(f"hub id {name} needs a revision: give the commit whose files are meant")
    else:
        sources = (Source(name, revision, dict.fromkeys(published.files)),)
    return _fetch(sources, published)


def _list_directory(directory: Path, name: str, published: PublishedFiles) -> WeightFiles:
    paths = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*") if path.is_file()}
    digest = hashlib.sha256()
    for file in sorted({*published.files, *map(_twin, published.files), *published.optional} & paths.keys()):
        digest.update(f"{file} {_sha256(paths[file])}\n".encode())
    return WeightFiles(f"{name}@sha256:{digest.hexdigest()[:12]}", paths, published.files)


def _twin(name: str) -> str:
    return f"{name.rpartition('.')[0]}.safetensors"


def _fetch(sources: tuple[Source, ...], published: PublishedFiles) -> WeightFiles:
    """Download, or find in the hub's cache, the files of `sources`; optional files come from the first source."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    wanted = [(source, name, True) for source in sources for name in source.files]
    wanted += [(sources[0], name, False) for name in published.optional]
    paths: dict[str, Path] = {}
    for source, name, required in wanted:
        try:
            path = Path(hf_hub_download(source.repository, name, revision=source.revision))
        except (OSError, HfHubHTTPError, ValueError) as error:
            if not required and isinstance(error, EntryNotFoundError):
                continue
            raise WeightsNotFound(
                f"cannot get {name} of {source.repository} at {source.revision[:12]}: {_first_line(error)}; check the "
                "network and HF_HUB_OFFLINE, or name a local directory with the published files"
            ) from error
        expected = source.files.get(name)
        if expected is not None:
            check_sha256(path, expected)
        paths[name] = path
    identity = " + ".join(f"{source.repository}@{source.revision[:12]}" for source in sources)
    logger.info("weights of {} ready", identity)
    return WeightFiles(identity, paths, published.files)


def check_sha256(path: Path, expected: str) -> None:
    """Raise `WeightsUnreadable` unless the file's SHA-256 is `expected`."""
    digest = _sha256(path)
    if digest != expected:
        raise WeightsUnreadable(f"{path} is not the published file: its SHA-256 is {digest}, not {expected}; delete it")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_tensors(path: Path, prefixes: tuple[str, ...] = ("",)) -> dict[str, Tensor]:
    """Tensors whose names start with one of `prefixes`, on the CPU.

    The file is a .safetensors file (of which only these tensors are read), or a .pt / .pth file, read with
    `weights_only=True`.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                names = [name for name in file.keys() if name.startswith(prefixes)]  # noqa: SIM118, not a mapping
                return {name: file.get_tensor(name) for name in names}
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, EOFError, OSError) as error:
        raise WeightsUnreadable(
            f"{path} is truncated, corrupt, or holds more than tensors ({_first_line(error)}); fetch it again"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsUnreadable(f"{path} is not a plain dictionary of tensors; use the published file")
    return {name: tensor for name, tensor in content.items() if name.startswith(prefixes)}


def build_module(module_class: Any, config: Any, tensors: Mapping[str, Tensor], origin: str) -> nn.Module:
    """A module of `module_class(config)` holding exactly `tensors`, in evaluation mode, without gradients.

    Parameters are never initialised at random first: they are assigned, so a large model costs its own size once.
    Raises `WeightsMismatch` on a missing, extra or differently shaped tensor, naming the first few.
    """
    from accelerate import init_empty_weights
    from transformers.initialization import no_init_weights

    with no_init_weights(), init_empty_weights(include_buffers=False):
        module = module_class(config)
    expected = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    problems = [f"{name} is missing" for name in expected.keys() - found.keys()]
    problems += [f"{name} is not part of the architecture" for name in found.keys() - expected.keys()]
    problems += [
        f"{name} has shape {found[name]}, expected {expected[name]}"
        for name in expected.keys() & found.keys()
        if found[name] != expected[name]
    ]
    if problems:
        shown = "; ".join(sorted(problems)[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        raise WeightsMismatch(f"{origin} does not fit its configuration: {shown}")
    module.load_state_dict(dict(tensors), strict=False, assign=True)
    return module.eval().requires_grad_(False)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
