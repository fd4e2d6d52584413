from __future__ import annotations

import json

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckResponse

from tests.client.fake_server import FakeServer, model
from tests.client.test_main import error_of, run


def test_a_serving_server_exits_with_0_and_one_line(server: FakeServer) -> None:
    result = run("health", address=server.address)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"serving: the server at {server.address}\n"


def test_a_starting_or_draining_server_exits_with_1(server: FakeServer) -> None:
    server.health.set("", HealthCheckResponse.NOT_SERVING)
    result = run("health", address=server.address)
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout == "not serving: the server answers, but is starting or draining\n"


@pytest.mark.parametrize("arguments", [[], ["--model", "dcgan"]])
def test_an_unreachable_server_exits_with_1_quickly(arguments: list[str]) -> None:
    with FakeServer().serve() as stopped:
        address = stopped.address
    result = run("health", *arguments, "--timeout-s", "0.5", address=address)
    assert (result.exit_code, result.stderr) == (1, "")
    [line] = result.stdout.splitlines()
    assert line.startswith("not serving: no ")
    assert address in line


def test_probes_have_a_short_default_timeout() -> None:
    assert "[default: 2.0]" in " ".join(run("health", "--help").stdout.split())


def test_a_model_is_serving_if_it_is_listed_and_ready(server: FakeServer) -> None:
    assert run("health", "--model", "dcgan", address=server.address).stdout == (f"serving: dcgan at {server.address}\n")
    server.ready = False
    result = run("health", "--model", "dcgan", address=server.address)
    assert (result.exit_code, result.stdout) == (1, "not serving: an engine of 'dcgan' is being rebuilt\n")


def test_an_unknown_model_exits_with_1(server: FakeServer) -> None:
    result = run("health", "--model", "nope", address=server.address)
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout == "not serving: no model 'nope' is served\n"


def test_an_older_server_is_asked_for_its_list_of_models(server: FakeServer) -> None:
    server.models = [model()]
    server.describe_failures.extend([(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")] * 2)
    assert run("health", "--model", "dcgan", address=server.address).exit_code == 0
    result = run("health", "--model", "nope", address=server.address)
    assert (result.exit_code, result.stdout) == (1, "not serving: no model 'nope' is served; served models: dcgan\n")


def test_a_refused_token_exits_with_2(server: FakeServer) -> None:
    server.describe_failures.append((grpc.StatusCode.UNAUTHENTICATED, "who are you"))
    result = run("health", "--model", "dcgan", address=server.address)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "who are you" in error_of(result)


def test_json_has_the_same_fields_for_both_results(server: FakeServer) -> None:
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
def test_an_invalid_flag_exits_with_2(arguments: list[str], message: str) -> None:
    result = run("health", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in error_of(result)
