"""Settings: precedence of flag, environment, file and default; and one clear line for everything that is wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ig_subnet.config.settings import (
    MinerSettings,
    ValidatorNeuronSettings,
    parse_miner_settings,
    parse_validator_settings,
)
from ig_subnet.config.sources import ENVIRONMENT
from protocol import TextToImageSynapse

LOCAL = ["--subtensor.network", "local"]


def flags(*lines: str) -> list[str]:
    return " ".join(lines).split()


@pytest.fixture
def config_file(tmp_path: Path) -> Callable[[object], str]:
    def write(content: object) -> str:
        path = tmp_path / "settings.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return str(path)

    return write


def failure(capsys: pytest.CaptureFixture[str], parse: Callable[[list[str]], object], *arguments: str) -> str:
    """What the program says when it refuses these arguments."""
    with pytest.raises(SystemExit) as ended:
        parse(list(arguments))
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1, "one line"
    return said.err


# --- precedence


@pytest.mark.parametrize(("variable", "path"), ENVIRONMENT.items())
def test_flag_beats_environment_beats_file_beats_default(
    variable: str, path: tuple[str, str], config_file: Callable[[object], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    group, name = path
    values = {
        "network": ["test", "archive", "devnet"],
        "chain_endpoint": ["ws://a:1", "ws://b:2", "ws://c:3"],
        "path": ["/a", "/b", "/c"],
    }.get(name, ["a", "b", "c"])

    def read(*arguments: str) -> str:
        return str(getattr(getattr(parse_validator_settings(list(arguments)), group), name))

    default = read()
    from_file = ["--config", config_file({group: {name: values[0]}})]
    assert read(*from_file) == values[0] != default
    monkeypatch.setenv(variable, values[1])
    assert read(*from_file) == values[1]
    assert read(*from_file, f"--{group}.{name}", values[2]) == values[2]
    monkeypatch.setenv(variable, "")
    assert read(*from_file) == values[0], "an empty variable is not set"


def test_a_flag_replaces_one_value_of_a_group_and_leaves_the_rest_to_the_file(
    config_file: Callable[[object], str],
) -> None:
    path = config_file({"neuron": {"timeout": 7, "sample_size": 3}, "netuid": 5})
    parsed = parse_validator_settings(["--config", path, "--neuron.timeout", "9.5"])
    assert (parsed.neuron.timeout, parsed.neuron.sample_size, parsed.netuid) == (9.5, 3, 5)


@settings(max_examples=30, deadline=None)
@given(
    flag=st.none() | st.integers(1, 256),
    file=st.none() | st.integers(1, 256),
    other=st.none() | st.floats(0.25, 600, width=32),
)
def test_precedence_holds_for_any_mixture(
    tmp_path_factory: pytest.TempPathFactory, flag: int | None, file: int | None, other: float | None
) -> None:
    path = tmp_path_factory.getbasetemp() / "mixture.yaml"
    path.write_text(yaml.safe_dump({"neuron": {} if file is None else {"sample_size": file}}))
    arguments = ["--config", str(path)]
    arguments += [] if flag is None else [f"--neuron.sample_size={flag}"]
    arguments += [] if other is None else [f"--neuron.timeout={other!r}"]
    neuron = parse_validator_settings(arguments).neuron
    assert neuron.sample_size == (flag or file)
    assert neuron.timeout == (other or 30)


def test_every_conventional_flag_is_known() -> None:
    miner = parse_miner_settings(
        flags(
            "--netuid 7 --subtensor.network local --subtensor.chain_endpoint ws://127.0.0.1:9955",
            "--wallet.name w --wallet.hotkey h --wallet.path ~/elsewhere --axon.port 8099 --axon.ip 127.0.0.1",
            "--axon.external_ip 10.0.0.1 --axon.external_port 9000 --logging.debug --logging.trace --neuron.name n",
            "--neuron.device cpu --blacklist.allow_non_registered --no-blacklist.force_validator_permit",
            "--blacklist.min_stake 1000 --miner.model noise --miner.steps 2",
            "--axon.nonce_store ~/nonces.sqlite3 --axon.trusted_proxy 10.0.0.2 --axon.trusted_proxy ::1",
        )
    )
    assert (miner.axon.nonce_store, miner.axon.trusted_proxy) == (Path.home() / "nonces.sqlite3", ("10.0.0.2", "::1"))
    assert miner.blacklist.min_stake == 1000
    assert miner.subtensor.target == "ws://127.0.0.1:9955"
    assert miner.wallet.path == Path.home() / "elsewhere"
    assert (miner.published_ip, miner.axon.external_port) == ("10.0.0.1", 9000)
    assert (miner.blacklist.allow_non_registered, miner.blacklist.force_validator_permit) == (True, False)
    assert miner.logging.level == "TRACE"

    validator = parse_validator_settings(
        flags(
            "--netuid 7 --neuron.sample_size 4 --neuron.timeout 5 --neuron.moving_average_alpha 0.5",
            "--neuron.epoch_length 20 --neuron.disable_set_weights --no-wandb.off --wandb.project_name p",
            "--wandb.entity e --profile mixture",
        )
    )
    assert (validator.neuron.epoch_length, validator.neuron.disable_set_weights) == (20, True)
    assert (validator.wandb.off, validator.wandb.project_name) == (False, "p")
    assert parse_validator_settings([]).wandb.off


def test_hotkeys_to_refuse_are_a_list_and_look_like_hotkeys(capsys: pytest.CaptureFixture[str]) -> None:
    refused = ["5CA3onFpA75kRSgNkF6twsDeumSA5NhLhxQWSdraSEL8vScn", "5CzRdZLnRxWkyWoGZZbfvSCY4mbw1cmsow5q8cgZyGg1aiDq"]
    parsed = parse_miner_settings([*LOCAL, *(f"--blacklist.hotkeys={hotkey}" for hotkey in refused)])
    assert list(parsed.blacklist.hotkeys) == refused
    assert "--blacklist.hotkeys" in failure(capsys, parse_miner_settings, *LOCAL, "--blacklist.hotkeys", "5CA3")


def test_state_lies_under_coldkey_hotkey_netuid_and_name() -> None:
    parsed = parse_miner_settings(
        flags("--subtensor.network local --wallet.name w --wallet.hotkey h --netuid 3 --neuron.name n")
    )
    assert parsed.state_directory == Path.home() / ".bittensor/miners/w/h/netuid3/n"
    assert parse_validator_settings(["--neuron.root", "/r"]).state_directory == Path(
        "/r/default/default/netuid1/validator"
    )


def test_settings_are_frozen() -> None:
    parsed = parse_miner_settings(LOCAL)
    with pytest.raises(ValidationError, match="frozen"):
        parsed.netuid = 2
    with pytest.raises(ValidationError, match="frozen"):
        parsed.neuron.name = "other"


@pytest.mark.parametrize(
    ("setting", "of_the_wire"),
    [
        ("timeout", "deadline_seconds"),
        ("images_per_prompt", "num_images"),
        ("image_width", "width"),
        ("image_height", "height"),
        ("steps", "steps"),
    ],
)
def test_a_validator_may_ask_for_exactly_what_the_wire_carries(setting: str, of_the_wire: str) -> None:
    allowed = ValidatorNeuronSettings.model_fields[setting].metadata
    carried = TextToImageSynapse.model_fields[of_the_wire].metadata
    assert carried and sorted(map(repr, allowed)) == sorted(map(repr, carried))


def test_the_widest_settings_make_a_request() -> None:
    flags_of = {"timeout": 600, "images_per_prompt": 16, "image_width": 2048, "image_height": 2048, "steps": 200}
    neuron = parse_validator_settings([f"--neuron.{name}={value}" for name, value in flags_of.items()]).neuron
    synapse = TextToImageSynapse(
        prompt="x",
        width=neuron.image_width,
        height=neuron.image_height,
        num_images=neuron.images_per_prompt,
        seed=0,
        steps=neuron.steps,
        deadline_seconds=neuron.timeout,
    )
    assert (synapse.deadline_seconds, synapse.num_images, synapse.width, synapse.steps) == (600, 16, 2048, 200)


def test_a_validator_pays_strangers_unless_it_is_local_or_sets_no_weights() -> None:
    assert parse_validator_settings([]).pays_strangers
    assert parse_validator_settings(["--subtensor.network", "ws://127.0.0.1:9944"]).pays_strangers
    assert not parse_validator_settings(["--neuron.disable_set_weights"]).pays_strangers
    assert not parse_validator_settings([*LOCAL, "--subtensor.chain_endpoint", "ws://10.0.0.1:9944"]).pays_strangers


@pytest.mark.parametrize(
    ("endpoint", "own"),
    [
        ("ws://127.0.0.1:9944", True),
        ("ws://localhost:9944", True),
        ("ws://[::1]:9944", True),
        ("wss://entrypoint-finney.opentensor.ai:443", False),
        ("ws://8.8.8.8:9944", False),
        ("ws://127.0.0.1.example.org:9944", False),
        ("ws://127.0.0.1@example.org:9944", False),
        ("ws://[::ffff:8.8.8.8]:9944", False),
        ("ws://[::1", False),
    ],
)
def test_local_is_a_chain_of_ones_own_whatever_it_is_called(endpoint: str, own: bool) -> None:
    """Nobody can call the network of others local, and so be called at a private address or pay by a guess."""
    settings = parse_validator_settings([*LOCAL, "--subtensor.chain_endpoint", endpoint])
    assert (settings.allow_private_axons, settings.pays_strangers) == (own, not own)


def test_the_head_is_published_only_where_that_is_asked_for() -> None:
    assert not parse_validator_settings([]).neuron.publish_commitments
    assert parse_validator_settings(["--neuron.publish_commitments"]).neuron.publish_commitments


# --- where the miner can be reached


def test_local_network_allows_private_axons_and_publishes_this_machine() -> None:
    assert parse_miner_settings(LOCAL).published_ip == "127.0.0.1"
    assert parse_miner_settings([*LOCAL, "--axon.ip", "::"]).published_ip == "127.0.0.1"
    assert parse_miner_settings([*LOCAL, "--axon.ip", "192.168.1.7"]).published_ip == "192.168.1.7"
    assert parse_validator_settings(LOCAL).allow_private_axons
    assert not parse_validator_settings([]).allow_private_axons
    assert parse_validator_settings(["--neuron.allow_private_axons"]).allow_private_axons


def test_elsewhere_the_miner_needs_a_public_address(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--axon.external_ip is required" in failure(capsys, parse_miner_settings)
    for address in ("10.0.0.1", "127.0.0.1", "0.0.0.0", "::1", "fe80::1", "224.0.0.1"):
        assert address in failure(capsys, parse_miner_settings, "--axon.external_ip", address)
    assert parse_miner_settings(["--axon.external_ip", "8.8.8.8"]).published_ip == "8.8.8.8"


def test_a_validator_that_serves_records_can_be_reached(capsys: pytest.CaptureFixture[str]) -> None:
    """Only one that is told to serves any, and then the rules are a miner's."""
    assert parse_validator_settings([]).axon.port is None
    assert parse_validator_settings([*LOCAL, "--axon.port", "0"]).axon.published_ip == "127.0.0.1"
    public = ["--axon.port", "8093", "--axon.external_ip", "8.8.8.8"]
    assert parse_validator_settings(public).axon.published_ip == "8.8.8.8"
    told = failure(capsys, parse_validator_settings, "--axon.port", "8093")
    assert "--axon.external_ip is required" in told and "at which miners reach this machine" in told
    assert "10.0.0.1 is private, miners will not call it" in failure(
        capsys, parse_validator_settings, "--axon.port", "8093", "--axon.external_ip", "10.0.0.1"
    )
    for flags_without_port in (["--axon.external_ip", "8.8.8.8"], [*LOCAL, "--axon.external_port", "1"]):
        assert "--axon.port is required" in failure(capsys, parse_validator_settings, *flags_without_port)


# --- errors


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--neuron.tiemout", "3"], "--neuron.tiemout"),
        (
            ["--neuron.time", "3"],
            "--neuron.time",
        ),  # no abbreviations: a new flag must not change what an old line means
        (["stray"], "stray"),
        (["--neuron.timeout"], "--neuron.timeout"),
        (["--neuron.timeout", "0"], "--neuron.timeout: must be greater than 0"),
        (["--neuron.timeout", "nan"], "--neuron.timeout"),
        (["--neuron.timeout=soon"], "--neuron.timeout"),
        (["--neuron.moving_average_alpha", "1.5"], "--neuron.moving_average_alpha"),
        (["--neuron.device", "tpu"], "--neuron.device: must be auto, cpu, cuda or cuda:N, not 'tpu'"),
        (["--netuid", "65536"], "--netuid"),
        (["--wallet.name", "../other"], "--wallet.name"),
        (["--neuron.name", ""], "--neuron.name"),
        (["--subtensor.network", "finey"], "finney, test, archive, devnet, local"),
        (["--subtensor.chain_endpoint", "http://127.0.0.1"], "--subtensor.chain_endpoint"),
        (["--config", "missing.yaml"], "missing.yaml: No such file"),
        (["--config", "."], "Is a directory"),
    ],
)
def test_a_wrong_flag_is_named(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert named in failure(capsys, parse_validator_settings, *arguments)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"neuron": {"tiemout": 3}}, "unknown setting neuron.tiemout in the --config file"),
        ({"neurons": {}}, "unknown setting neurons in the --config file"),
        ({"neuron": {"timeout": -1}}, "neuron.timeout in the --config file: must be greater than 0, not -1"),
        ({"neuron": {"save_images": 3}}, "neuron.save_images in the --config file"),
        ({"neuron": 3}, "neuron in the --config file"),
        ({1: 2}, "name: value"),
        ("- a\n- b\n", "name: value"),
        ("a: [", "is not YAML"),
        ("a: !!python/object/apply:os.getcwd []", "is not YAML"),
    ],
)
def test_a_wrong_file_is_named(
    content: object, named: str, config_file: Callable[[object], str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert named in failure(capsys, parse_validator_settings, "--config", config_file(content))


def test_a_wrong_variable_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BT_NETWORK", "finey")
    assert "environment variable BT_NETWORK" in failure(capsys, parse_validator_settings)


@settings(max_examples=30, deadline=None)
@example("~nobody-of-that-name")
@given(text=st.text(max_size=30))
def test_no_text_as_a_value_ends_in_a_traceback(text: str) -> None:
    for flag in ("--neuron.timeout", "--subtensor.network", "--wallet.path", "--neuron.seed", "--config"):
        try:
            parse_validator_settings([f"{flag}={text}"])
        except SystemExit as ended:
            assert ended.code in (0, 2)


def test_an_empty_file_changes_nothing(config_file: Callable[[object], str]) -> None:
    assert MinerSettings(subtensor={"network": "local"}) == parse_miner_settings(LOCAL)
    assert (
        parse_validator_settings(["--config", config_file("# nothing\n")]).neuron == parse_validator_settings([]).neuron
    )


# --- help


@pytest.mark.parametrize("parse", ["parse_miner_settings", "parse_validator_settings"])
def test_help_is_complete_and_imports_nothing_heavy(parse: str) -> None:
    code = (
        f"import sys, atexit; from ig_subnet.config.settings import {parse}\n"
        "heavy = {'torch', 'bittensor', 'diffusers', 'numpy', 'fastapi'}\n"
        "atexit.register(lambda: print('HEAVY', heavy & set(sys.modules)))\n"
        f"{parse}(['--help'])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "HEAVY set()" in ran.stdout
    assert ran.stderr == ""
    for flag in (
        "--netuid",
        "--subtensor.network",
        "--wallet.hotkey",
        "--logging.debug",
        "--neuron.device",
        "--config",
    ):
        assert flag in ran.stdout
