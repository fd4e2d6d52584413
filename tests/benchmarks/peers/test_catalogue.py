from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.peers.catalogue import MAX_BATCH_ROWS, RIVALS, free_ports, ours
from benchmarks.peers.homes import TRITON, Environment
from benchmarks.peers.layout import Layout
from benchmarks.peers.served_graph import ServedGraph

LAYOUT = Layout(1, 3)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home" / TRITON.name / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    return tmp_path / "home"


@pytest.mark.parametrize("rival", RIVALS)
def test_a_rival_gets_the_graph_the_layout_and_the_largest_batch(
    rival: str, tiny_graph: ServedGraph, home: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    launch = RIVALS[rival][0](home, LAYOUT).prepare(tiny_graph, folder)
    written = "\n".join(path.read_text() for path in folder.rglob("*") if path.is_file())
    passed = " ".join([*launch.command, *launch.environment.values(), written])
    assert str(tiny_graph.graph) in passed
    assert str(LAYOUT.threads) in passed
    assert str(MAX_BATCH_ROWS) in passed
    assert str(launch.port) in passed
    assert str(home) in launch.command[0]


def test_tritons_config_has_instances_and_shapes(tiny_graph: ServedGraph, home: Path, tmp_path: Path) -> None:
    RIVALS["triton"][0](home, Layout(5, 1)).prepare(tiny_graph, tmp_path)
    config = (tmp_path / "repository" / "tiny" / "config.pbtxt").read_text()
    assert "KIND_CPU count: 5" in config
    assert 'name: "latents" data_type: TYPE_FP32 dims: [8]' in config
    assert 'name: "images" data_type: TYPE_FP32 dims: [1, 2, 3]' in config


def test_mlservers_settings_name_the_model(tiny_graph: ServedGraph, home: Path, tmp_path: Path) -> None:
    RIVALS["mlserver"][0](home, LAYOUT).prepare(tiny_graph, tmp_path)
    settings = json.loads((tmp_path / "tiny" / "model-settings.json").read_text())
    assert settings["parameters"]["extra"] == {"graph": str(tiny_graph.graph), "threads": 3}


def test_our_server_picks_its_ports_and_gets_the_given_flags(tiny_graph: ServedGraph, tmp_path: Path) -> None:
    launch = ours("ours two", "--engines 2 --log-level warning").prepare(tiny_graph, tmp_path)
    assert launch.port is None
    assert list(launch.command[-4:]) == ["--engines", "2", "--log-level", "warning"]
    assert str(tiny_graph.repository) in launch.command


@pytest.mark.parametrize(
    ("flags", "precision"), [("", "fp32"), ("--precision=bf16", "bf16"), ("--precision fp16", "fp16")]
)
def test_reduced_precision_has_a_larger_tolerance(flags: str, precision: str) -> None:
    peer = ours("x", flags)
    assert peer.precision == precision
    assert (peer.tolerance > ours("y", "").tolerance) == (precision != "fp32")


def test_free_ports_differ() -> None:
    assert len(set(free_ports(5))) == 5


def test_an_environment_is_ready_once_it_is_marked_and_until_its_packages_change(tmp_path: Path) -> None:
    environment = Environment("some", ("some==1.0",))
    environment.folder(tmp_path).mkdir()
    assert not environment.is_ready(tmp_path)
    environment.mark_ready(tmp_path)
    assert environment.is_ready(tmp_path)
    assert not replace(environment, packages=("some==1.1",)).is_ready(tmp_path)


def test_a_missing_environment_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        TRITON.site_packages(tmp_path)
