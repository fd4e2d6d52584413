"""Commands with --models: no server."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client.commands.local_models import _Warnings, names_in
from tests.client.commands.test_model_options import completions
from tests.client.test_main import error_of, run
from tests.server.tiny_bundles import publish_tiny_bundle, publish_tiny_translator

BAD_ADDRESS = "http://not-an-address"  # what a command that connected to a server would complain about


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("repository") / "models"
    publish_tiny_bundle(models)
    publish_tiny_translator(models)
    return models


@pytest.mark.parametrize(
    "words",
    [
        ["grid", "--model", "tiny"],
        ["info", "tiny"],
        ["models"],
        ["versions"],
        ["health", "--model", "tiny"],
        ["interpolate", "--model", "tiny", "--seed", "1", "--out", "out.png"],
        ["traverse", "--model", "tiny", "--out", "out.png"],
        ["latents", "rows.npy", "--model", "tiny", "--out", "out.png"],
        ["translate", "--model", "tiny-a2b", "in.png", "--out", "out"],
        ["sample", "--model", "tiny", "--version", "1", "--out", "out"],
    ],
    ids=lambda words: words[0],
)
def test_every_command_that_only_reads_needs_no_server_and_ignores_its_variables(
    models: Path, here: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANSERVE_TOKEN", "not a token")
    np.save("rows.npy", np.zeros((2, 4), np.float32))
    Image.new("RGB", (6, 4)).save("in.png")
    result = run(*words, "--models", str(models), address=BAD_ADDRESS)
    assert result.exit_code == 0, result.output
    assert "Error" not in result.output


@pytest.mark.parametrize("name", ["load", "unload", "rollback", "bench"])
def test_commands_for_servers_do_not_take_it(name: str) -> None:
    assert "--models" in error_of(run(name, "--models", "models"))


@pytest.mark.parametrize(
    "flags",
    [
        ["--address", "127.0.0.1:1"],
        ["--tls"],
        ["--tls-roots", "x"],
        ["--tls-key", "x"],
        ["--tls-certificate", "x"],
        ["--tls-server-name", "x"],
        ["--token-file", "x"],
    ],
    ids=lambda flags: flags[0],
)
def test_flags_of_a_server_are_refused(flags: list[str]) -> None:
    result = run("models", "--models", "models", *flags)
    assert result.exit_code == 2
    assert error_of(result) == f"Error: --models and {flags[0]}: give one of them; --models needs no server"


@pytest.mark.parametrize(
    ("folder", "words", "text"),
    [
        ("none", ["models"], "Error: Invalid value for '--models': no model repository at "),
        (
            "none",
            ["translate", "in.png", "--out", "o", "--model", "x"],
            "Error: Invalid value for '--models': no model repo",
        ),
        ("models/tiny", ["models"], "did you mean --models "),
        ("models", ["grid", "--model", "nope"], "no model 'nope' is in "),
        ("models", ["grid", "--model", "tiny", "--version", "9"], "version 9 of 'tiny' is not in the repository"),
        ("models", ["grid", "--model", "tiny", "--version", "stable"], "has the label 'stable'; it has none"),
    ],
)
def test_a_mistake_prints_a_one_line_error(models: Path, here: Path, folder: str, words: list[str], text: str) -> None:
    Image.new("RGB", (6, 4)).save(here / "in.png")
    result = run(*words, "--models", str(models.parent / folder))
    assert result.exit_code == 2, result.output
    assert text in error_of(result)


def test_a_missing_package_prints_a_one_line_error(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = run("models", "--models", str(models))
    assert result.exit_code == 2
    assert error_of(result) == (
        "Error: Invalid value for '--models': to compute without a server needs onnxruntime: pip install '.[serve]' in"
        " a checkout"
    )


def test_messages_name_the_folder(models: Path) -> None:
    assert run("health", "--models", str(models)).stdout == f"serving: the server at {models}\n"
    assert json.loads(run("health", "--json", "--models", str(models)).stdout)["address"] == str(models)


def test_a_version_that_is_not_the_newest_can_be_named(tmp_path: Path) -> None:
    for version in (1, 2):
        publish_tiny_bundle(tmp_path, version=version, seed=version)
    for version in (1, 2):
        words = ["sample", "--models", str(tmp_path), "--model", "tiny", "--version", str(version), "--seed", "1"]
        result = run(*words, "--out", str(tmp_path / f"{version}.npz"))
        assert f"of tiny:{version} (seed 1)" in result.stdout


def test_a_broken_version_is_one_line_on_stderr(tmp_path: Path) -> None:
    publish_tiny_bundle(tmp_path)
    (publish_tiny_bundle(tmp_path, version=2) / "model.onnx").write_bytes(b"no graph")
    result = run("models", "--models", str(tmp_path))
    assert result.exit_code == 0
    [line] = result.stderr.splitlines()
    assert line.startswith("warning: tiny:2 is broken and not served: ")


def test_a_warning_of_the_server_is_one_printable_line(capsys: pytest.CaptureFixture[str]) -> None:
    record = logging.LogRecord("server.x", logging.WARNING, "", 0, "two\nlines %s", ("\x1b[2J",), None)
    _Warnings().emit(record)
    assert capsys.readouterr().err == "warning: two lines ?[2J\n"


def test_names_are_completed_without_loading_anything(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.commands.local_models.LocalClient", None)
    assert completions("grid", "--models", str(models), "--model", typed="tiny-") == ["tiny-a2b"]
    assert completions("info", "--models", str(models)) == ["tiny", "tiny-a2b"]
    assert names_in(models / "none") == []


def test_ctrl_c_while_the_models_load_or_compute_ends_with_130(models: Path, tmp_path: Path) -> None:
    words = ["sample", "--models", str(models), "--model", "tiny", "--n", "1000000", "--seed", "1", "--out", "out"]
    program = (
        "import signal, threading, client.commands.sample as sample\n"
        "from client.__main__ import main\n"
        "inside = sample._fetch\n"
        "def fetch(*arguments):\n"
        "    for part in inside(*arguments):\n"
        "        yield part\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "sample._fetch = fetch\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=tmp_path,
    )
    assert done.returncode == 130, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("out: interrupted; ")
