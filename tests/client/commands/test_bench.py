from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import grpc
import pytest

from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import FakeServer
from tests.client.test_main import error_of, run

SHORT = ("--seconds", "0.2", "--warmup-s", "0")


def bench(server: FakeServer, *arguments: str) -> Any:
    return run("bench", "--model", "dcgan", *SHORT, *arguments, address=server.address)


def test_every_load_is_measured_with_every_number_of_rows(server: FakeServer) -> None:
    result = bench(server, "--concurrency", "1,2", "--rate", "50", "--rows", "1,3", "--json", "-")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["model"], report["version"], report["complete"]) == ("dcgan", 3, True)
    loads = [
        (item["loop"], item["rows"], item.get("concurrency", item.get("rate_per_s"))) for item in report["measurements"]
    ]
    closed = [("closed", rows, concurrency) for rows in (1, 3) for concurrency in (1, 2)]
    assert loads == [*closed, ("open", 1, 50), ("open", 3, 50)]
    for item in report["measurements"]:
        assert item["answered"] == item["requests"] > 0
        assert item["images_per_s"] == pytest.approx(item["requests_per_s"] * item["rows"])
        assert 0 < item["p50_ms"] <= item["p90_ms"] <= item["p99_ms"] <= item["max_ms"]
    assert {request.latents.shape[0] for request in server.requests} == {1, 3}


def test_the_table_has_one_row_per_load(server: FakeServer, here: Path) -> None:
    result = bench(server, "--concurrency", "2", "--rate", "40", "--arrivals", "constant", "--json", "new/a.json")
    header, closed, opened, written = result.stdout.splitlines()
    assert header.split() == ["load", "rows", "images/s", "requests/s", "p50", "ms", "p90", "ms", "p99", "ms", "errors"]
    assert closed.startswith("closed 2 ")
    assert opened.startswith("open 40/s ")
    assert written == "new/a.json: 2 of 2 loads"
    [_, item] = json.loads((here / "new" / "a.json").read_text())["measurements"]
    assert item["requests"] == 8  # at 40/s within 0.2 s


def test_image_models_are_sent_images(server: FakeServer) -> None:
    result = run("bench", "--model", "a2b", "--concurrency", "1", "--rows", "2", *SHORT, address=server.address)
    assert result.exit_code == 0, result.output
    assert tuple(server.translations[0].pixels.shape) == (2, 4, 3, 3)


@pytest.mark.parametrize("image_format", ["pixels", "float32", "png", "jpeg"])
def test_responses_can_have_any_format(server: FakeServer, image_format: str) -> None:
    result = bench(server, "--concurrency", "1", "--format", image_format, "--json", "-")
    assert json.loads(result.stdout)["measurements"][0]["errors"] == {}


def test_requests_refused_by_a_busy_server_are_counted_and_not_retried(server: FakeServer) -> None:
    server.failures.extend([(grpc.StatusCode.RESOURCE_EXHAUSTED, "full"), (grpc.StatusCode.UNAVAILABLE, "starting")])
    result = bench(server, "--concurrency", "1", "--json", "-")
    assert result.exit_code == 0
    [item] = json.loads(result.stdout)["measurements"]
    assert item["errors"] == {"RESOURCE_EXHAUSTED": 1, "UNAVAILABLE": 1}
    assert item["requests"] == item["answered"] + 2 == len(server.requests)


def test_a_server_that_refuses_every_request_prints_a_one_line_error_without_a_table(server: FakeServer) -> None:
    def refuse(request: pb.GenerateRequest) -> pb.GenerateResponse:
        return pb.GenerateResponse(model="another", version=3)

    server.answer = refuse
    result = bench(server, "--concurrency", "1,2")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "it is from the model 'another'" in error_of(result)


def test_an_overloaded_server_is_a_result(server: FakeServer) -> None:
    server.failures.extend([(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")] * 100_000)
    result = bench(server, "--concurrency", "1")
    assert result.exit_code == 0
    assert "RESOURCE_EXHAUSTED" in result.stdout.splitlines()[1]


def test_ctrl_c_reports_the_measurements_so_far(server: FakeServer, here: Path) -> None:
    def interrupt(request: pb.GenerateRequest) -> pb.GenerateResponse:
        if request.latents.shape[0] == 2:
            os.kill(os.getpid(), signal.SIGINT)
            server.answer = None
        return server.images_for(request)

    server.answer = interrupt
    before = signal.getsignal(signal.SIGINT)
    result = bench(server, "--concurrency", "1", "--rows", "1,2,3", "--seconds", "0.5", "--json", "a.json")
    assert signal.getsignal(signal.SIGINT) is before
    assert result.exit_code == 130
    assert "interrupted; 2 of 3 loads were measured, the last in part" in result.stderr
    report = json.loads((here / "a.json").read_text())
    assert [item["complete"] for item in report["measurements"]] == [True, False]
    assert report["complete"] is False


def test_an_unreachable_server_prints_a_one_line_error(here: Path) -> None:
    result = run("bench", "--model", "dcgan", "--timeout-s", "0.5")
    assert result.exit_code == 1
    assert "127.0.0.1:1" in error_of(result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--concurrency", "0"], "'--concurrency': must be a whole number in 1 .. 4096, not '0'"),
        (["--concurrency", "1,,2"], "'--concurrency': must be a whole number in 1 .. 4096, not ''"),
        (["--rows", "1,many"], "'--rows': must be a whole number in 1 .. 65536, not 'many'"),
        (["--rows", "1025"], "--rows: at most 1,024 rows per request for 'dcgan', not 1025"),
        (["--rate", "nan"], "'--rate': must be requests per second in 0.01 .. 100000, not 'nan'"),
        (["--rate", "-1"], "'--rate': must be requests per second"),
        (["--seconds", "0"], "'--seconds': must be seconds in 0.1 .. 86400, not '0'"),
        (["--warmup-s", "inf"], "'--warmup-s': must be seconds in 0 .. 86400, not 'inf'"),
        (["--arrivals", "bursts"], "'--arrivals': 'bursts' is not one of"),
        (["--format", "gif"], "'--format': 'gif' is not one of"),
        (["--connections", "0"], "'--connections': must be a whole number in 1 .. 64"),
        (["--json", "."], "'--json': .: is a folder; name a file in it"),
        (["--version", "9"], "version 9 of 'dcgan' is not served; served versions: 3"),
        (["--model", "pix"], "no model 'pix' is served"),
        (["--rows", ",".join(map(str, range(1, 60)))], "--rows, --concurrency, --rate: give at most 100 loads"),
    ],
)
def test_a_mistake_prints_a_one_line_error_that_names_the_flag(
    server: FakeServer, here: Path, arguments: list[str], message: str
) -> None:
    result = bench(server, *arguments)
    assert result.exit_code == 2
    assert message in error_of(result)
    assert not server.requests
