from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from client.commands.explore import connection_flags
from client.commands.options import ConnectOptions
from client.explore.page_server import HOST
from tests.client.test_main import error_of, run


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
    assert "pip install '.[explore]'" in error_of(result)


def test_connection_flags_are_passed_on_without_the_token() -> None:
    connect = ConnectOptions("host:1", 3.0, True, Path("roots.pem"), None, None, "name", Path("token"))
    assert connection_flags(connect) == [
        *("--address", "host:1", "--tls", "--tls-roots", "roots.pem"),
        *("--tls-server-name", "name", "--token-file", "token"),
    ]
