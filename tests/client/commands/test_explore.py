from __future__ import annotations

import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from client.commands.explore import connection_flags, page_address
from client.commands.options import ConnectOptions
from client.explore.commands_text import Commands
from client.explore.page_server import HOST, Exposure
from tests.client.test_main import error_of, run
from tests.server.tiny_bundles import publish_tiny_bundle


def test_a_port_in_use_prints_a_one_line_error() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run("explore", "--port", str(port))
        assert result.exit_code == 2
        assert f"--port: {port} cannot be used (Address already in use); name another" in error_of(result)


@pytest.mark.parametrize("port", ["-1", "65536", "web"])
def test_an_invalid_port_prints_a_one_line_error(port: str) -> None:
    result = run("explore", "--port", port)
    assert result.exit_code == 2
    assert "must be a whole number in 0 .. 65535" in error_of(result)


def test_without_gradio_a_one_line_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    result = run("explore", "--port", "0")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[0] == "starting the explorer ..."
    assert "pip install '.[explore]'" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--host", "host.invalid"), "--host: host.invalid is not known"),
        (("--host", "192.0.2.1"), "--host: 192.0.2.1 is not an address of this machine"),
        (("--allow-host", "http://x"), "must be a host name without port"),
        (("--root-path", "explorer"), "must be a path such as /explorer"),
        (("--dataset", "."), "holds no picture"),
    ],
)
def test_an_invalid_flag_prints_a_one_line_error(
    flags: tuple[str, str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("explore", "--port", "0", *flags)
    assert result.exit_code == 2
    assert complaint in error_of(result)


@pytest.mark.parametrize(
    ("exposure", "address"),
    [
        (Exposure(), "http://127.0.0.1:7/"),
        (Exposure("0.0.0.0", token="abc"), "http://127.0.0.1:7/?token=abc"),
        (Exposure("::1"), "http://[::1]:7/"),
    ],
)
def test_the_printed_address_can_be_opened_on_this_machine(exposure: Exposure, address: str) -> None:
    assert page_address(exposure, 7) == address


def test_connection_flags_are_passed_on_without_the_token() -> None:
    connect = ConnectOptions("host:1", 3.0, True, Path("roots.pem"), None, None, "name", Path("token"))
    assert connection_flags(connect) == [
        *("--address", "host:1", "--tls", "--tls-roots", "roots.pem"),
        *("--tls-server-name", "name", "--token-file", "token"),
    ]


def test_the_commands_on_the_page_of_local_models_name_their_folder() -> None:
    connect = ConnectOptions("host:1", 3.0, False, None, None, None, None, None, Path("my models"))
    assert connection_flags(connect) == ["--models", "my models"]
    commands = Commands(connection_flags(connect))
    assert (commands.place, commands.start_server()) == ("my models", "")


@pytest.mark.slow
def test_the_page_shows_models_that_the_command_loads_itself(tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    publish_tiny_bundle(tmp_path)
    command = [sys.executable, "-m", "client", "explore", "--models", str(tmp_path), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith(f"exploring {tmp_path} at http://127.0.0.1:")
            with urllib.request.urlopen(f"{line.split()[3]}config", timeout=60) as page:
                assert str(tmp_path) in page.read().decode()
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
