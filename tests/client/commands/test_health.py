from __future__ import annotations

import json

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckResponse

from tests.client.fake_server import FakeServer, model
from tests.client.test_main import error_of, run


def test_a_server_that_serves_is_0_and_one_line(server: FakeServer) -> None:
    result = run("health", address=server.address)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"serving: the server at {server.address}\n"


def test_a_server_that_starts_or_drains_is_1(server: FakeServer) -> None:
    server.health.set("", HealthCheckResponse.NOT_SERVING)
    result = run("health", address=server.address)
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout == "not serving: the server answers, but is starting or draining\n"


@pytest.mark.parametrize("arguments", [[], ["--model", "dcgan"]])
def test_a_server_that_is_not_there_is_1_and_soon_told(arguments: list[str]) -> None:
    with FakeServer().serve() as stopped:
        address = stopped.address
    result = run("health", *arguments, "--timeout-s", "0.5", address=address)
    assert (result.exit_code, result.stderr) == (1, "")
    [line] = result.stdout.splitlines()
    assert line.startswith("not serving: no ")
    assert address in line


def test_probes_wait_for_seconds_only_unless_they_are_told_to() -> None:
    assert "[default: 2.0]" in " ".join(run("health", "--help").stdout.split())


def test_a_model_is_served_if_it_is_listed_and_ready(server: FakeServer) -> None:
    assert run("health", "--model", "dcgan", address=server.address).stdout == (f"serving: dcgan at {server.address}\n")
    server.ready = False
    result = run("health", "--model", "dcgan", address=server.address)
    assert (result.exit_code, result.stdout) == (1, "not serving: an engine of 'dcgan' is being rebuilt\n")


def test_a_model_that_is_not_served_is_no_mistake_of_the_user(server: FakeServer) -> None:
    result = run("health", "--model", "nope", address=server.address)
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout == "not serving: no model 'nope' is served\n"


def test_an_older_server_is_asked_for_its_list(server: FakeServer) -> None:
    server.models = [model()]
    server.describe_failures.extend([(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")] * 2)
    assert run("health", "--model", "dcgan", address=server.address).exit_code == 0
    result = run("health", "--model", "nope", address=server.address)
    assert (result.exit_code, result.stdout) == (1, "not serving: no model 'nope' is served; served models: dcgan\n")


def test_a_refused_token_is_a_users_mistake(server: FakeServer) -> None:
    server.describe_failures.append((grpc.StatusCode.UNAUTHENTICATED, "who are you"))
    result = run("health", "--model", "dcgan", address=server.address)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "who are you" in error_of(result)


def test_json_has_the_same_fields_either_way(server: FakeServer) -> None:
    told = json.loads(run("health", "--json", address=server.address).stdout)
    assert told == {"serving": True, "address": server.address, "model": None, "reason": ""}
    result = run("health", "--model", "nope", "--json", address=server.address)
    told = json.loads(result.stdout)
    assert result.exit_code == 1
    assert told == {
        "serving": False,
        "address": server.address,
        "model": "nope",
        "reason": "no model 'nope' is served",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", ""], "model: must be a name"),
        (["--timeout-s", "0"], "'--timeout-s': must be seconds"),
        (["dcgan"], "unexpected extra argument"),
        (["--address", "nowhere"], "'--address'"),
    ],
)
def test_a_mistake_in_the_flags_is_2(arguments: list[str], message: str) -> None:
    result = run("health", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in error_of(result)
