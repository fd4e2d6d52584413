"""The Dockerfile's base, ports, commands and health check; `make image-test` builds it."""

from __future__ import annotations

import json
import re
from typing import Any

import click
import pytest
from click.testing import CliRunner

from client.__main__ import cli as ganclient
from scripts import image_test
from server.__main__ import main as server
from server.config import ServerConfig
from tests.deploy.manifests import dockerfile


def flags() -> dict[str, Any]:
    """The values of all flags of the server in the image."""
    [entrypoint], [command] = dockerfile("ENTRYPOINT", "runtime"), dockerfile("CMD", "runtime")
    words = json.loads(entrypoint) + json.loads(command)
    assert words[:3] == ["python", "-m", "server"]
    assert isinstance(server, click.Command)
    return server.make_context("server", words[3:]).params


def test_the_base_is_one_exact_version_that_an_argument_replaces() -> None:
    image, *_ = dockerfile("ARG")
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.\d+\.\d+-slim-[a-z]+", image)
    sources, stages = zip(*(line.split(" AS ") for line in dockerfile("FROM")), strict=True)
    assert {*sources} - {*stages} == {"${PYTHON_IMAGE}"}


def test_the_images_are_tested_on_a_stand_in_for_that_base() -> None:
    assert f"PYTHON_IMAGE={image_test.base_image()}" == dockerfile("ARG")[0]


def test_every_target_is_tested_and_the_server_is_the_default() -> None:
    sources, stages = zip(*(line.split(" AS ") for line in dockerfile("FROM")), strict=True)
    copied = {line.split()[0].removeprefix("--from=") for line in dockerfile("COPY") if line.startswith("--from=")}
    assert {*stages} - {*sources} - copied == {*image_test.TARGETS}
    assert stages[-1] == image_test.TARGETS[0] == "server"


def test_every_target_has_the_extras_of_its_programs() -> None:
    extras = {target: dockerfile("ARG", f"build-{target}") for target in image_test.TARGETS}
    assert extras == {
        "server": ["EXTRAS=serve,http"],
        "server-gpu": ["EXTRAS=serve,http,cuda"],
        "trainer": ["EXTRAS=export"],
    }


def test_the_trainer_image_runs_our_programs() -> None:
    [entrypoint], [command] = dockerfile("ENTRYPOINT", "trainer"), dockerfile("CMD", "trainer")
    assert json.loads(entrypoint) == ["python", "-m"]
    assert json.loads(command) == ["trainer", "--help"]


def test_only_grpc_listens_on_all_interfaces() -> None:
    values = flags()
    assert values["address"].host == "0.0.0.0"
    assert values["metrics_address"] == ServerConfig.metrics_address
    assert values["admin_address"] is None
    assert dockerfile("EXPOSE") == [str(values["address"].port)]


def test_the_health_check_is_a_command_for_the_port_of_the_image() -> None:
    [check] = dockerfile("HEALTHCHECK")
    options, _, command = check.partition("CMD ")
    assert "--start-period" in options
    program, *words = json.loads(command)
    assert program == "ganclient"
    assert words == ["health", "--address", f"127.0.0.1:{flags()['address'].port}"]


@pytest.mark.parametrize("is_running", [True, False])
def test_the_health_check_tells_a_running_server_from_none(is_running: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from client.sdk.client import GanClient

    monkeypatch.setattr(GanClient, "healthy", lambda _: is_running)
    [check] = dockerfile("HEALTHCHECK")
    _, *words = json.loads(check.partition("CMD ")[2])
    assert CliRunner().invoke(ganclient, words).exit_code == (0 if is_running else 1)


def test_the_image_holds_bytecode_because_its_user_cannot_write_any() -> None:
    assert any("UV_COMPILE_BYTECODE=1" in settings.split() for settings in dockerfile("ENV", "uv"))
    assert any(line.startswith("python -m compileall ") for line in dockerfile("RUN", "user"))
