from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from client.__main__ import cli
from ganserve.grids import image_grid
from ganserve.latents import latents_from_seed
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import FakeServer, model, pixels_of, translator

Code = grpc.StatusCode


def run(*arguments: str, address: str = "127.0.0.1:1") -> Result:
    return CliRunner().invoke(cli, arguments, env={"GANSERVE_ADDRESS": address}, prog_name="ganclient")


def error_of(result: Result) -> str:
    """The one line on stderr."""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.output
    assert lines[0].startswith("Error: ")
    return lines[0]


def test_grid_saves_the_images_of_the_seed_and_says_where(server: FakeServer, here: Path) -> None:
    server.models = [model(channels=3)]
    result = run("grid", "--model", "dcgan", "--n", "5", "--seed", "0", "--out", "new/a.png", address=server.address)
    assert result.exit_code == 0, result.output
    assert result.stdout == "new/a.png: 5 images of dcgan:3 (seed 0)\n"
    assert result.stderr == ""
    expected = image_grid(pixels_of(latents_from_seed(0, 5, 6), 4, 3, 3))
    with Image.open(here / "new" / "a.png") as saved:
        np.testing.assert_array_equal(np.asarray(saved), np.asarray(expected))


def test_grid_needs_a_model_only(server: FakeServer, here: Path) -> None:
    result = run("grid", "--model", "dcgan", address=server.address)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("grid.png: 64 images of dcgan:3 (seed ")
    assert (here / "grid.png").is_file()


def test_the_printed_random_seed_makes_the_same_picture_again(server: FakeServer, here: Path) -> None:
    first = run("grid", "--model", "dcgan", "--n", "9", "--out", "a.png", address=server.address)
    seed = first.stdout.split("(seed ")[1].rstrip(")\n")
    second = run("grid", "--model", "dcgan", "--n", "9", "--out", "b.png", "--seed", seed, address=server.address)
    assert second.exit_code == 0
    assert (here / "a.png").read_bytes() == (here / "b.png").read_bytes()
    third = run("grid", "--model", "dcgan", "--n", "9", "--out", "c.png", address=server.address)
    assert third.stdout.split("(seed ")[1].rstrip(")\n") != seed


def test_grid_takes_version_columns_and_address_flags(server: FakeServer, here: Path) -> None:
    server.models = [model(version=1), model(version=2)]
    arguments = ["--n", "4", "--version", "1", "--columns", "4", "--address", server.address, "--timeout-s", "9.5"]
    result = run("grid", "--model", "dcgan", *arguments)
    assert "4 images of dcgan:1 " in result.stdout
    with Image.open(here / "grid.png") as saved:
        assert saved.size == (2 + 4 * (3 + 2), 2 + 4 + 2)


def test_one_image_is_not_called_images(server: FakeServer, here: Path) -> None:
    result = run("grid", "--model", "dcgan", "--n", "1", "--seed", "7", address=server.address)
    assert result.stdout == "grid.png: 1 image of dcgan:3 (seed 7)\n"
    assert [path.name for path in here.iterdir()] == ["grid.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n", "0"], "'--n': must be a whole number in 1 .. 10000, not '0'"),
        (["--n", "10001"], "'--n': must be a whole number in 1 .. 10000, not '10001'"),
        (["--n", "many"], "'--n': must be a whole number in 1 .. 10000, not 'many'"),
        (["--seed", "-1"], "'--seed': must be a whole number in 0 .. 18446744073709551615"),
        (["--seed", "18446744073709551616"], "'--seed': must be a whole number in 0 .. 18446744073709551615"),
        (["--seed", "1.5"], "'--seed': must be a whole number"),
        (["--version", "0"], "'--version': must be a whole number in 1 .."),
        (["--columns", "0"], "'--columns': must be a whole number in 1 .. 10000"),
        (["--timeout-s", "0"], "'--timeout-s': must be seconds, more than 0"),
        (["--timeout-s", "nan"], "'--timeout-s': must be seconds, more than 0"),
        (["--timeout-s", "soon"], "'--timeout-s': must be seconds, more than 0"),
        (["--address", "localhost"], "'--address' (env var: 'GANSERVE_ADDRESS'): address 'localhost': give HOST:PORT"),
        (["--out", "a.gan"], "'--out': a.gan: has no known image extension; use one of .png"),
        (["--out", "file/a.png"], "'--out': file/a.png: cannot be written"),
        (["--out", "folder.png"], "'--out': folder.png: is a folder"),
        (["--out", "a\n\x1b[2J\udcff.gan"], "'--out': a ?[2J?.gan: has no known image extension"),
        (["--bogus"], "No such option '--bogus'"),
    ],
)
def test_a_mistake_in_a_flag_is_one_line_that_names_it(here: Path, arguments: list[str], message: str) -> None:
    (here / "file").touch()
    (here / "folder.png").mkdir()
    result = run("grid", "--model", "dcgan", *arguments)
    assert result.exit_code == 2
    assert message in error_of(result)


def test_a_missing_model_and_an_unknown_command_are_one_line(here: Path) -> None:
    missing, unknown = run("grid"), run("paint")
    assert (missing.exit_code, unknown.exit_code) == (2, 2)
    assert "'--model'" in error_of(missing)
    assert "'paint'" in error_of(unknown)


def test_a_bad_address_in_the_environment_is_one_line() -> None:
    result = run("models", address="http://localhost:50051")
    assert result.exit_code == 2
    assert "GANSERVE_ADDRESS" in error_of(result)


def test_a_grid_that_no_memory_holds_is_a_user_mistake_before_any_image_is_asked_for(
    server: FakeServer, here: Path
) -> None:
    server.models = [model(height=2048, width=2048)]
    result = run("grid", "--model", "dcgan", "--n", "10000", address=server.address)
    assert result.exit_code == 2
    assert error_of(result).startswith("Error: --out: 10000 images of 2048x2048 are too many for one picture;")
    assert (server.requests, list(here.iterdir())) == ([], [])


def test_an_unknown_model_is_a_user_mistake_and_the_served_ones_are_named(server: FakeServer, here: Path) -> None:
    result = run("grid", "--model", "nope", address=server.address)
    assert result.exit_code == 2
    assert error_of(result) == "Error: no model 'nope' is served; served are: a2b, dcgan"
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "exit_code"),
    [(Code.INVALID_ARGUMENT, 2), (Code.INTERNAL, 1), (Code.RESOURCE_EXHAUSTED, 1), (Code.DEADLINE_EXCEEDED, 1)],
)
def test_a_servers_refusal_is_one_line(server: FakeServer, here: Path, status: grpc.StatusCode, exit_code: int) -> None:
    server.failures.append((status, "because\nof this"))
    result = run("grid", "--model", "dcgan", address=server.address)
    assert result.exit_code == exit_code
    assert "because of this" in error_of(result)
    assert list(here.iterdir()) == []


@pytest.mark.usefixtures("quick_retries")
def test_a_server_that_is_not_there_is_one_line(here: Path) -> None:
    with FakeServer().serve() as stopped:
        address = stopped.address
    result = run("models", address=address)
    assert result.exit_code == 1
    assert f"no server is ready at {address}" in error_of(result)


def test_a_picture_that_cannot_be_saved_is_one_line(server: FakeServer, here: Path) -> None:
    server.models = [model(channels=4)]
    result = run("grid", "--model", "dcgan", "--out", "a.jpg", address=server.address)
    assert result.exit_code == 2
    assert "a.jpg: cannot be written" in error_of(result)
    assert list(here.iterdir()) == []


def test_models_is_plain_when_piped(server: FakeServer) -> None:
    imported = model("imported", 12, kind="", dataset="", channels=3, width=128, device="cuda:0")
    of_the_future = model("sounds", 2, task=7, latent_dim=0, channels=0)
    gray = translator(input_image=pb.ImageShape(channels=1, height=8, width=9))
    server.models = [model(), imported, gray, of_the_future]
    result = run("models", address=server.address)
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["name", "version", "kind", "dataset", "input", "image", "device", "backend"],
        ["dcgan", "3", "dcgan", "digits", "6", "3x4x1", "cpu", "onnx"],
        ["imported", "12", "-", "-", "6", "128x4x3", "cuda:0", "onnx"],
        ["a2b", "5", "cyclegan", "photos", "9x8x1", "3x4x3", "cpu", "onnx"],
        ["sounds", "2", "dcgan", "digits", "-", "-", "cpu", "onnx"],
    ]


def test_models_as_json_has_every_field(server: FakeServer) -> None:
    server.models = [model()]
    result = run("models", "--json", address=server.address)
    assert json.loads(result.stdout) == [
        {
            "name": "dcgan",
            "version": 3,
            "kind": "dcgan",
            "architecture": "dcgan",
            "dataset": "digits",
            "task": "generate",
            "latent_dim": 6,
            "latent_distribution": "normal",
            "input_channels": 0,
            "input_height": 0,
            "input_width": 0,
            "channels": 1,
            "height": 4,
            "width": 3,
            "device": "cpu",
            "backend": "onnx",
            "max_request_rows": 1024,
            "max_request_bytes": 0,
        }
    ]


def test_no_models_are_said_so(server: FakeServer) -> None:
    server.models = []
    table, as_json = run("models", address=server.address), run("models", "--json", address=server.address)
    assert (table.exit_code, table.stdout) == (0, "")
    assert table.stderr == f"no models are served at {server.address}\n"
    assert json.loads(as_json.stdout) == []


def on_a_terminal(arguments: list[str], folder: Path) -> tuple[int, str]:
    """Runs the command with a terminal for stdout and stderr; returns the exit code and what the terminal shows."""
    terminal, end = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-m", "client", *arguments]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=end, stderr=end) as process:
        os.close(end)
        shown = b""
        try:
            while piece := os.read(terminal, 4096):
                shown += piece
        except OSError as error:  # how Linux says that the other end is closed
            assert error.errno == 5  # noqa: PT017  (any other would be a fault of the test)
        finally:
            os.close(terminal)
        return process.wait(timeout=30), shown.decode()


def test_a_terminal_sees_a_progress_bar_for_several_chunks_only(server: FakeServer, tmp_path: Path) -> None:
    arguments = ["grid", "--model", "dcgan", "--address", server.address, "--n"]
    exit_code, shown = on_a_terminal([*arguments, "300"], tmp_path)
    assert exit_code == 0, shown
    assert "300/300" in shown
    assert "300 images of dcgan:3" in shown
    exit_code, shown = on_a_terminal([*arguments, "30"], tmp_path)
    assert exit_code == 0, shown
    assert "30/30" not in shown


def test_a_terminal_sees_a_table_and_no_markup_of_the_servers(server: FakeServer, tmp_path: Path) -> None:
    server.models = [model(dataset="[red]digits")]
    exit_code, shown = on_a_terminal(["models", "--address", server.address], tmp_path)
    assert exit_code == 0, shown
    assert "[red]digits" in shown
    assert "│" in shown


def test_an_interrupt_ends_quietly_with_130(server: FakeServer, tmp_path: Path) -> None:
    server.released.clear()
    command = [sys.executable, "-m", "client", "grid", "--model", "dcgan", "--address", server.address]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert server.received.wait(timeout=30)
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=30)
    assert (process.returncode, *output) == (130, b"", b"")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_in_the_midst_of_writing_leaves_nothing_behind(server: FakeServer, tmp_path: Path) -> None:
    program = """
import os, signal, sys
from pathlib import Path
from client.__main__ import main

write = Path.write_bytes

def interrupted(path, data):
    write(path, data[:9])
    print(len(list(path.parent.iterdir())), flush=True)
    os.kill(os.getpid(), signal.SIGINT)

Path.write_bytes = interrupted
main()
"""
    Image.new("RGB", (3, 4)).save(tmp_path / "a.png")
    arguments = ["translate", "--model", "a2b", "a.png", "--out", "out", "--address", server.address]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"1\n", b"")
    assert list((tmp_path / "out").iterdir()) == []
