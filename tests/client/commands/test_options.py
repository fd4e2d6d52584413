"""The connection flags of every command, and the types of flags."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.commands.options import listed, number_of, whole_number
from tests.client.fake_server import FakeServer
from tests.client.sdk.certificates import Certificates, certificates
from tests.client.test_main import error_of, run

__all__ = ["certificates"]  # a fixture


def test_several_addresses_may_come_from_the_flag_or_the_environment(server: FakeServer) -> None:
    both = f"127.0.0.1:1,{server.address}"
    assert run("models", "--address", both).stdout.count("dcgan") == 2  # its name and its kind
    assert run("models", address=both).exit_code == 0
    server.models = []
    assert run("models", address=both).stderr == f"no models are served at {both}\n"


def test_tls_flags_reach_a_server_with_tls(certificates: Certificates) -> None:
    server = FakeServer()
    with server.serve(credentials=certificates.for_server(asks_for_client=True)):
        pair = ["--tls-key", str(certificates.client_key), "--tls-certificate", str(certificates.client_certificate)]
        flags = ["--tls", "--tls-roots", str(certificates.roots), "--tls-server-name", "gan.example.org", *pair]
        result = run("models", *flags, address=server.address)
        assert result.exit_code == 0, result.output
        implied = run("models", "--tls-roots", str(certificates.roots), *pair, address=server.address)
        assert implied.exit_code == 0, implied.output
        untrusted = run("models", "--tls", "--timeout-s", "3", *pair, address=server.address)
    assert untrusted.exit_code == 1
    assert "not from a trusted authority: set --tls-roots" in error_of(untrusted)


def test_a_token_comes_from_a_file_or_the_environment(
    server: FakeServer, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "token").write_text("from-file\n")
    monkeypatch.setenv("GANSERVE_TOKEN", "from-environment")
    for command in (["models"], ["grid", "--model", "dcgan"]):
        assert run(*command, address=server.address).exit_code == 0
        assert run(*command, "--token-file", "token", address=server.address).exit_code == 0
    assert set(server.authorizations) == {"Bearer from-environment", "Bearer from-file"}
    monkeypatch.setenv("GANSERVE_TOKEN", "")
    assert run("models", address=server.address).exit_code == 0
    assert server.authorizations[-1] is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--address", "a:1,b:1"], "'--address' (env var: 'GANSERVE_ADDRESS'): address 'a:1': among several"),
        (["--tls-roots", "none.pem"], "'--tls-roots': none.pem cannot be read (No such file or directory); name a P"),
        (["--tls-roots", "."], "'--tls-roots': . cannot be read (Is a directory)"),
        (["--tls-roots", "client_key"], "'--tls-roots': client_key is not a PEM file"),
        (["--tls-key", "client_key"], "'--tls-key': requires --tls-certificate; give both or neither"),
        (["--tls-certificate", "client_key"], "'--tls-key': requires --tls-certificate"),
        (["--tls-key", "x", "--tls-certificate", "y"], "'--tls-key': x cannot be read"),
        (["--tls-server-name", "a b"], "'--tls-server-name': must be a host name, not 'a b'"),
        (["--tls", "--address", "10.0.0.1:1,10.0.0.2:1"], "'--tls-server-name': give the name in the servers' cert"),
        (["--token-file", "none"], "'--token-file': none cannot be read (No such file or directory)"),
        (["--token-file", "empty"], "'--token-file': must be 1 .. 8192 printable ASCII characters"),
        (["--token-file", "binary"], "'--token-file': binary cannot be read (it is not ASCII text)"),
        (["--token-file", "long"], "'--token-file': must be 1 .. 8192 printable ASCII characters"),
        (["--token-file", "client_key", "--address", "gan:1"], "'--token-file': is not sent to gan:1 without TLS,"),
    ],
)
def test_a_mistake_in_a_connection_flag_prints_a_one_line_error_that_names_it(
    here: Path, flags: list[str], message: str
) -> None:
    (here / "client_key").write_text("word")
    (here / "empty").touch()
    (here / "binary").write_bytes(b"\xff\x00")
    (here / "long").write_text("a" * 9000)
    result = run("models", *flags)
    assert result.exit_code == 2, result.output
    assert message in error_of(result)
    assert "word" not in result.output


def test_a_token_in_the_environment_never_leaves_this_machine_without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANSERVE_TOKEN", "secret-word")
    result = run("models", address="gan:1")
    assert result.exit_code == 2
    assert error_of(result) == (
        "Error: Invalid value for 'GANSERVE_TOKEN': is not sent to gan:1 without TLS, because others"
        " could read it: give --tls"
    )


def test_a_refused_token_exits_with_2(server: FakeServer, here: Path) -> None:
    server.failures.append((grpc.StatusCode.PERMISSION_DENIED, "not you"))
    result = run("grid", "--model", "dcgan", address=server.address)
    assert result.exit_code == 2
    assert "denies access (not you); give a valid token" in error_of(result)


def test_grpcs_own_log_is_not_printed_with_the_error(server: FakeServer) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    command = [sys.executable, "-m", "client", "models", "--tls", "--timeout-s", "5", "--address", server.address]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.endswith("it does not use TLS: turn TLS off, or name another address")


def outcome(parse: Callable[[str], float], text: str) -> float | str:
    """The number, or the error message."""
    try:
        return parse(text)
    except click.BadParameter as error:
        return error.message


@given(st.integers(-5, 5).map(str) | st.floats().map(str) | st.text(max_size=8))
def test_a_whole_number_is_parsed_or_refused_in_one_line(text: str) -> None:
    found = outcome(whole_number(-2, 3), text)
    if isinstance(found, str):
        assert found == f"must be a whole number in -2 .. 3, not {text!r}"
        assert text not in map(str, range(-2, 4))
    else:
        assert found == int(text)
        assert found in range(-2, 4)


@given(st.floats() | st.text(max_size=8))
def test_a_number_is_parsed_or_refused_in_one_line(value: float | str) -> None:
    found = outcome(number_of("seconds", 0.5, 2), str(value))
    if isinstance(found, str):
        assert found.startswith("must be seconds in 0.5 .. 2, not ")
        assert not isinstance(value, float) or not 0.5 <= value <= 2
    else:
        assert 0.5 <= found == float(value) <= 2


@given(st.lists(st.integers(0, 9), min_size=1, max_size=4))
def test_a_list_keeps_the_order_of_its_numbers(numbers: list[int]) -> None:
    assert listed(whole_number(0, 9), at_most=4)(" , ".join(map(str, numbers))) == tuple(numbers)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a whole number in 0 .. 9, not ''"),
        ("1,,2", "must be a whole number in 0 .. 9, not ''"),
        ("1;2", "must be a whole number in 0 .. 9, not '1;2'"),
        ("1,2,3,4,5", "must be at most 4 numbers, separated by commas, not 5"),
    ],
)
def test_a_list_is_refused_with_its_first_error(text: str, message: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        listed(whole_number(0, 9), at_most=4)(text)
    assert caught.value.message == message
