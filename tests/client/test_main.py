from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from client.__main__ import cli
from tests.client.fake_server import FakeServer

Code = grpc.StatusCode


def run(*arguments: str, address: str = "127.0.0.1:1") -> Result:
    return CliRunner().invoke(cli, arguments, env={"GANSERVE_ADDRESS": address}, prog_name="ganclient")


def error_of(result: Result) -> str:
    """The one line on stderr."""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.output
    assert lines[0].startswith("Error: ")
    return lines[0]


def test_a_missing_model_and_an_unknown_command_print_a_one_line_error(here: Path) -> None:
    missing, unknown = run("grid"), run("paint")
    assert (missing.exit_code, unknown.exit_code) == (2, 2)
    assert "'--model'" in error_of(missing)
    assert "'paint'" in error_of(unknown)


def test_a_bad_address_in_the_environment_prints_a_one_line_error() -> None:
    result = run("models", address="http://localhost:50051")
    assert result.exit_code == 2
    assert "GANSERVE_ADDRESS" in error_of(result)


@pytest.mark.parametrize(
    ("status", "exit_code"),
    [(Code.INVALID_ARGUMENT, 2), (Code.INTERNAL, 1), (Code.RESOURCE_EXHAUSTED, 1), (Code.DEADLINE_EXCEEDED, 1)],
)
def test_an_error_from_the_server_prints_a_one_line_error(
    server: FakeServer, here: Path, status: grpc.StatusCode, exit_code: int
) -> None:
    server.failures.append((status, "because\nof this"))
    result = run("grid", "--model", "dcgan", address=server.address)
    assert result.exit_code == exit_code
    assert "because of this" in error_of(result)
    assert list(here.iterdir()) == []


@pytest.mark.usefixtures("quick_retries")
def test_an_unreachable_server_prints_a_one_line_error(here: Path) -> None:
    with FakeServer().serve() as stopped:
        address = stopped.address
    result = run("models", address=address)
    assert result.exit_code == 1
    assert f"no server is ready at {address}" in error_of(result)


def on_a_terminal(arguments: list[str], folder: Path) -> tuple[int, str]:
    """Runs the command with a terminal for stdout and stderr; returns the exit code and the terminal output."""
    terminal, end = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-m", "client", *arguments]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=end, stderr=end) as process:
        os.close(end)
        shown = b""
        try:
            while piece := os.read(terminal, 4096):
                shown += piece
        except OSError as error:  # on Linux: the other end is closed
            assert error.errno == 5  # noqa: PT017  (any other would be a fault of the test)
        finally:
            os.close(terminal)
        return process.wait(timeout=30), shown.decode()


def test_an_interrupt_exits_quietly_with_130(server: FakeServer, tmp_path: Path) -> None:
    server.released.clear()
    command = [sys.executable, "-m", "client", "grid", "--model", "dcgan", "--address", server.address]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert server.received.wait(timeout=30)
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=30)
    assert (process.returncode, *output) == (130, b"", b"")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_while_writing_leaves_no_files_behind(server: FakeServer, tmp_path: Path) -> None:
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
