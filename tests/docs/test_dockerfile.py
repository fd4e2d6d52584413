"""The Dockerfile's base, ports, command and health check; building it needs Docker."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from client.__main__ import cli as ganclient
from server.__main__ import main as server
from server.config import ServerConfig

LINES = (Path(__file__).parents[2] / "Dockerfile").read_text().splitlines()


def arguments(instruction: str) -> list[str]:
    return [line.removeprefix(f"{instruction} ") for line in LINES if line.startswith(f"{instruction} ")]


def flags() -> dict[str, Any]:
    """The values of all flags of the server in the image."""
    [entrypoint], [command] = arguments("ENTRYPOINT"), arguments("CMD")
    words = json.loads(entrypoint) + json.loads(command)
    assert words[:3] == ["python", "-m", "server"]
    assert isinstance(server, click.Command)
    return server.make_context("server", words[3:]).params


def test_the_base_is_one_exact_version_that_an_argument_replaces() -> None:
    image, *_ = arguments("ARG")
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.\d+\.\d+-slim-[a-z]+", image)
    assert arguments("FROM") == ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE}"]


def test_only_grpc_listens_on_all_interfaces() -> None:
    values = flags()
    assert values["address"].host == "0.0.0.0"
    assert values["metrics_address"] == ServerConfig.metrics_address
    assert values["admin_address"] is None
    assert arguments("EXPOSE") == [str(values["address"].port)]


def test_the_health_check_is_a_command_for_the_port_of_the_image() -> None:
    [check] = arguments("HEALTHCHECK")
    options, _, command = check.partition("CMD ")
    assert "--start-period" in options
    program, *words = json.loads(command)
    assert program == "ganclient"
    assert words == ["health", "--address", f"127.0.0.1:{flags()['address'].port}"]


@pytest.mark.parametrize("is_running", [True, False])
def test_the_health_check_tells_a_running_server_from_none(is_running: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from client.sdk.client import GanClient

    monkeypatch.setattr(GanClient, "healthy", lambda _: is_running)
    [check] = arguments("HEALTHCHECK")
    _, *words = json.loads(check.partition("CMD ")[2])
    assert CliRunner().invoke(ganclient, words).exit_code == (0 if is_running else 1)


def test_the_image_holds_bytecode_because_its_user_cannot_write_any() -> None:
    assert any("UV_COMPILE_BYTECODE=1" in settings.split() for settings in arguments("ENV"))
