from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import serve_peers
from benchmarks.peers import setup
from benchmarks.peers.homes import ENVIRONMENTS


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--peers", "tritn"], "tritn"),
        (["--cells", "64"], "64"),
        (["--model", "vae"], "vae"),
        (["--open-loop", "gan28"], "gan28"),
        (["--rounds", "0"], "--rounds"),
    ],
)
def test_a_mistake_is_a_one_line_error_with_exit_code_2(arguments: list[str], named: str) -> None:
    result = CliRunner().invoke(serve_peers.main, arguments)
    assert result.exit_code == 2
    assert named in result.stderr.splitlines()[-1]


def test_a_missing_load_generator_is_an_error_that_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_peers, "h2load_path", lambda: None)
    result = CliRunner().invoke(serve_peers.main, ["--peers", "floor"])
    assert result.exit_code == 2
    assert "nghttp2-client" in result.stderr


def test_a_rival_that_is_not_set_up_is_skipped_and_the_runtime_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve_peers, "h2load_path", lambda: "h2load")
    monkeypatch.setattr("benchmarks.peers.layout.usable_cores", lambda: 1)  # so that there is one layout, not three
    out = tmp_path / "peers.json"
    flags = [
        "--peers",
        "triton:2x1,in-process",
        "--model",
        "gan28",
        "--cells",
        "1x1",
        "--rounds",
        "1",
        "--seconds",
        "1",
    ]
    result = CliRunner().invoke(
        serve_peers.main, [*flags, "--peer-home", str(tmp_path), "--out", str(out)], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert "SKIPPED triton 2x1" in result.stderr
    assert "benchmarks.peers.setup" in result.stderr
    written = json.loads(out.read_text())
    assert written["visits"] == []
    assert len(written["problems"]) == 1
    assert all(limit["rounds"][0]["images_per_s"] > 0 for limit in written["in_process"])
    assert "in-process 1x1" in result.stdout


def test_setup_refuses_unknown_environments() -> None:
    result = CliRunner().invoke(setup.main, ["--only", "tritn"])
    assert result.exit_code == 2
    assert all(name in result.stderr for name in ENVIRONMENTS)


def test_setup_without_uv_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    result = CliRunner().invoke(setup.main, ["--peer-home", str(tmp_path / "home")])
    assert result.exit_code == 2
    assert "pip install uv" in result.stderr


def test_setup_skips_environments_that_are_ready(tmp_path: Path) -> None:
    for environment in ENVIRONMENTS.values():
        environment.folder(tmp_path).mkdir()
        environment.mark_ready(tmp_path)
    result = CliRunner().invoke(setup.main, ["--peer-home", str(tmp_path)])
    assert result.exit_code == 0
    assert result.stdout.count("already set up") == len(ENVIRONMENTS)
