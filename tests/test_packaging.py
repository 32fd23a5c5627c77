"""What is declared, what is exported, and what an import costs."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from source_tree import PACKAGES, imports, modules

# Heavy or network-touching libraries that neither the import of a package nor --help may pull in.
HEAVY = (
    "torch",
    "transformers",
    "diffusers",
    "bittensor",
    "faiss",
    "datasets",
    "sentence_transformers",
    "matplotlib",
    "onnxruntime",
    "wandb",
)


def distribution_name(requirement: str) -> str:
    return re.match(r"[A-Za-z0-9._-]+", requirement).group(0).lower().replace("_", "-")  # type: ignore[union-attr]


def test_every_import_is_declared() -> None:
    declared = {distribution_name(r) for r in importlib.metadata.requires("ig-subnet") or [] if "extra ==" not in r}
    declared |= {
        distribution_name(r) for r in importlib.metadata.requires("ig-subnet") or [] if 'extra == "wandb"' in r
    }
    providers = importlib.metadata.packages_distributions()
    undeclared = set()
    for path in modules():
        for name in imports(path):
            top = name.split(".")[0]
            if top in PACKAGES or top in sys.stdlib_module_names:
                continue
            if not {d.lower().replace("_", "-") for d in providers.get(top, [])} & declared:
                undeclared.add(f"{path.name}: {top}")
    assert not undeclared


def test_constraints_hold_an_exact_version_of_every_requirement(project_root: Path) -> None:
    pins = dict(
        line.split("==")
        for line in (project_root / "constraints.txt").read_text().splitlines()
        if line and line[0] != "#"
    )
    pinned = {name.lower().replace("_", "-") for name in pins}
    assert {distribution_name(r) for r in importlib.metadata.requires("ig-subnet") or []} <= pinned


def loaded_by(code: str) -> set[str]:
    """Top-level modules in a fresh interpreter after running `code`."""
    program = f"{code}\nimport sys; print('\\n' + ' '.join({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "package",
    [
        "ig_subnet",
        "protocol",
        "neurons",
        "ig_subnet.chain",
        "ig_subnet.pocket",
        "ig_subnet.config",
        "ig_subnet.studies.sources",
        "ig_subnet.studies.scoring",
    ],
)
def test_importing_a_package_is_cheap(package: str) -> None:
    assert not loaded_by(f"import {package}") & set(HEAVY)


def test_exported_names() -> None:
    import ig_subnet

    assert set(ig_subnet.__all__) == {"Validator", "__spec_version__", "__version__"}
    major, minor, patch = (int(part) for part in ig_subnet.__version__.split("."))
    assert ig_subnet.__spec_version__ == 1000 * major + 10 * minor + patch
    assert importlib.metadata.version("ig-subnet") == ig_subnet.__version__


@pytest.mark.parametrize(
    "entry",
    [
        "neurons/miner.py",
        "neurons/validator.py",
        "scripts/inspect_validator.py",
        "scripts/my_record.py",
        "scripts/score.py",
        "scripts/evaluate.py",
        "scripts/fit_mixture.py",
    ],
)
def test_help_loads_nothing_heavy(entry: str, project_root: Path) -> None:
    code = f"""
import runpy, sys
sys.argv = [{entry!r}, "--help"]
sys.path.insert(0, {str((project_root / entry).parent)!r})  # as Python does for a script
try:
    runpy.run_path({str(project_root / entry)!r}, run_name="__main__")
except SystemExit as end:
    assert end.code in (0, None), end.code
"""
    assert not loaded_by(code) & set(HEAVY)


def test_min_compute_follows_the_schema(project_root: Path) -> None:
    document = yaml.safe_load((project_root / "min_compute.yml").read_text())
    assert document["version"] == "1.0"
    for role in ("miner", "validator"):
        assert set(document["compute_spec"][role]) == {"cpu", "gpu", "memory", "storage", "os"}
    assert set(document["network_spec"]["bandwidth"]) == {"download", "upload"}


def test_no_path_of_a_machine_is_committed(project_root: Path) -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=project_root, capture_output=True, text=True, timeout=60)
    if listed.returncode:
        pytest.skip("not a git checkout")
    text = (".py", ".sh", ".md", ".toml", ".yml", ".yaml", ".txt", ".html")
    private = re.compile(r"(?<![\w.-])/(?:work|root|home/\w+)/")
    found = [
        f"{name}: {line.strip()}"
        for name in listed.stdout.splitlines()
        if name.endswith(text) and name != "tests/test_packaging.py"
        for line in (project_root / name).read_text(encoding="utf-8").splitlines()
        if private.search(line)
    ]
    assert not found
