"""Which room may import which: the map of the project, held by a walk over every import statement."""

from __future__ import annotations

import sys

import pytest
from source_tree import PACKAGES, ROOT, imports, module_name, modules, room_of

# Room -> the rooms it may import (itself always). Data flows from left to right; what is not listed is a border.
MAY_IMPORT = {
    "protocol": set(),
    "ig_subnet": {"ig_subnet.validator"},
    "ig_subnet.config": {"ig_subnet"},
    "ig_subnet.imaging": set(),
    "ig_subnet.pocket": set(),
    "ig_subnet.pocket.training": {"ig_subnet.pocket", "ig_subnet.rewards"},
    "ig_subnet.localnet": set(),
    "ig_subnet.chain": {"protocol"},
    "ig_subnet.prompts": {"ig_subnet.pocket", "ig_subnet.config", "ig_subnet.rewards"},  # its tokenizers, nothing else
    "ig_subnet.rewards": {"ig_subnet.pocket", "ig_subnet.config"},
    "ig_subnet.validator": {"ig_subnet.rewards", "ig_subnet.prompts", "ig_subnet.config"},
    "ig_subnet.mining": {"protocol", "ig_subnet.chain", "ig_subnet.config", "ig_subnet.pocket"},
    "ig_subnet.validating": {
        "protocol",
        "ig_subnet.chain",
        "ig_subnet.config",
        "ig_subnet.imaging",
        "ig_subnet.prompts",
        "ig_subnet.rewards",
    },
    "ig_subnet.studies": {
        "ig_subnet.config",
        "ig_subnet.imaging",
        "ig_subnet.mining",  # the pipelines that make a study's images
        "ig_subnet.pocket",
        "ig_subnet.pocket.training",  # captions that are wrong in one respect
        "ig_subnet.prompts",
        "ig_subnet.rewards",
    },
    "ig_subnet.reporting": {
        "protocol",  # the record of a miner, to show it
        "ig_subnet",
        "ig_subnet.config",
        "ig_subnet.chain",
        "ig_subnet.studies",
        "ig_subnet.validating",
    },
    "neurons": {
        "protocol",
        "ig_subnet",
        "ig_subnet.chain",
        "ig_subnet.config",
        "ig_subnet.imaging",
        "ig_subnet.mining",
        "ig_subnet.prompts",
        "ig_subnet.reporting",
        "ig_subnet.rewards",
        "ig_subnet.validating",
    },
}
# Third-party packages that only some rooms may touch.
ONLY_IN = {
    "bittensor": {"ig_subnet.chain"},
    "bittensor_core": {"ig_subnet.localnet"},
    "sr25519": {"ig_subnet.chain"},
    "wandb": {"ig_subnet.reporting"},
}


def test_rooms_import_only_what_the_map_allows() -> None:
    crossings = []
    for path in modules():
        room = room_of(module_name(path))
        for name in imports(path):
            if name.split(".")[0] in PACKAGES and room_of(name) not in {room} | MAY_IMPORT[room]:
                crossings.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not crossings


@pytest.mark.parametrize("library", ONLY_IN)
def test_library_stays_in_its_room(library: str) -> None:
    found = {
        room_of(module_name(path)) for path in modules() for name in imports(path) if name.split(".")[0] == library
    }
    assert found <= ONLY_IN[library]


def test_the_independent_peers_are_independent() -> None:
    """tests/btauth_peers.py shows what docs/wire.md and the SDK are enough for."""
    found = {name.split(".")[0] for name in imports(ROOT / "tests" / "btauth_peers.py")}
    assert found - sys.stdlib_module_names == {"bittensor"}


def test_no_import_cycles() -> None:
    """Among the imports that run when a module is loaded."""
    known = {module_name(path) for path in modules()}
    graph = {module_name(path): {n for n in imports(path, at_run_time_only=True) if n in known} for path in modules()}
    finished: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
        if module not in finished:
            for imported in sorted(graph[module] - {module}):
                visit(imported, (*trail, module))
            finished.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_the_walk_sees_imports() -> None:
    """The walk itself can fail: it finds imports that are known to be there."""
    assert "bittensor" in {
        name.split(".")[0] for path in (ROOT / "ig_subnet" / "chain").glob("*.py") for name in imports(path)
    }
    assert room_of("ig_subnet.rewards.mixture") == "ig_subnet.rewards"
