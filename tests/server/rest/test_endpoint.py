"""Tests for server.rest.endpoint: limits, tokens, deadlines and disconnects, through a real port."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from server.app import Server
from server.errors import QueueFull
from server.rest import endpoint
from server.rest.app import OPERATIONS
from server.rest.operation import Operation
from tests.server.http.http_calls import connect, read_all, read_until
from tests.server.rest.conftest import ANY_PORT, Ask, Held, ask_server, error_of, unsent_bytes
from tests.server.scheduling.held_run import until

IMAGE = "/v1/models/tiny/image.png"
INFER = "/v2/models/tiny/infer"
Start = Callable[..., Awaitable[Server]]
Hold = Callable[..., Awaitable[Held]]
EVERY = [pytest.param(operation, id=f"{operation.method} {operation.path}") for operation in OPERATIONS]


def path_of(operation: Operation) -> str:
    return operation.path.replace("{model}", "tiny").replace("{version}", "1")


def request_of(operation: Operation) -> tuple[str, bytes | None]:
    return path_of(operation), b"" if operation.method == "POST" else None


async def counted(server: Server) -> dict[tuple[str, str], float]:
    """The requests so far, by method and status."""
    [family] = [f for f in server.core.metrics.registry.collect() if f.name == "ganserve_requests"]
    return {
        (sample.labels["method"], sample.labels["status"]): sample.value
        for sample in family.samples
        if sample.name == "ganserve_requests_total"
    }


@pytest.mark.parametrize("operation", EVERY)
async def test_without_a_token_nothing_is_answered(operation: Operation, start_server: Start, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("secret\n")
    server = await start_server(http_address=ANY_PORT, token_file=tmp_path / "tokens", model_control="explicit")
    path, body = request_of(operation)
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic secret"}):
        reply = await ask_server(server, path, body, headers)
        assert reply.status == 401
        assert reply.headers["www-authenticate"] == "Bearer"
        assert "secret" not in error_of(reply)
    reply = await ask_server(server, path, body, {"Authorization": "Bearer secret"})
    assert reply.status in {200, 400}  # 400: the bodies are empty
    method = operation.rpc.rpartition("/")[2]
    assert (await counted(server))[method, "UNAUTHENTICATED"] == 3


async def test_health_and_documentation_need_no_token(start_server: Start, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("secret\n")
    server = await start_server(http_address=ANY_PORT, token_file=tmp_path / "tokens")
    for path in ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json"):
        assert (await ask_server(server, path)).status == 200


async def test_admin_methods_are_answered_on_the_admin_address_only(start_server: Start) -> None:
    server = await start_server(http_address=ANY_PORT, admin_address=ANY_PORT, model_control="explicit")
    reply = await ask_server(server, "/v2/repository/models/tiny/unload", b"")
    assert reply.status == 403
    assert str(server.admin_address) in error_of(reply)


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_oversized_body_is_refused_while_it_is_sent(
    api: Server, chunked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = api.config.max_message_bytes
    assert api.http_address is not None
    if chunked:
        for route in api._rest_host._config.loaded_app.routes:  # type: ignore[union-attr]  # a limit that is quick to reach
            if isinstance(route.app, endpoint.Endpoint):
                monkeypatch.setattr(route.app, "_max_body_bytes", 1000)
        head = "Transfer-Encoding: chunked\r\n\r\n400\r\n" + "x" * 1024 + "\r\n"
    else:
        head = f"Content-Length: {limit + 1}\r\n\r\n"
    sent = f"POST /v1/models/tiny-a2b/translate HTTP/1.1\r\nHost: x\r\n{head}".encode()
    with await asyncio.to_thread(connect, api.http_address, sent) as connection:
        answer = await asyncio.to_thread(read_until, connection, b"}")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"the body has " in answer
    assert (await counted(api))["Translate", "INVALID_ARGUMENT"] == 1


async def test_a_body_that_nobody_reads_is_cut_off(api: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.rest.protocol.UPLOAD_GRACE_S", 0.01)
    assert api.http_address is not None
    sent = b"POST /v1/models/tiny-a2b/translate HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\nx"
    with await asyncio.to_thread(connect, api.http_address, sent) as connection:
        assert (await asyncio.to_thread(read_all, connection)).startswith(b"HTTP/1.1 413 ")


async def test_a_body_that_stops_coming_is_given_up(api: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "BODY_STALL_S", 0.05)
    assert api.http_address is not None
    sent = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{".encode()
    with await asyncio.to_thread(connect, api.http_address, sent) as connection:
        assert (await asyncio.to_thread(connection.recv, 4096)).startswith(b"HTTP/1.1 408 ")
    assert api.core.input_budget.used_bytes == 0


async def test_large_bodies_count_while_they_are_read(api: Server) -> None:
    assert api.http_address is not None
    size = 1 << 20
    sent = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
    with await asyncio.to_thread(connect, api.http_address, sent):
        await until(lambda: api.core.input_budget.used_bytes == size)
    await until(lambda: api.core.input_budget.used_bytes == 0)
    api.core.input_budget._total_bytes = size - 1
    reply = await ask_server(api, INFER, bytes(size))
    assert (reply.status, reply.headers["retry-after"]) == (429, "1")


@pytest.mark.parametrize("text", ["", "-1", "1.5", "1s", "9" * 30, "86400001"])
async def test_a_timeout_that_is_no_number_is_refused(ask: Ask, text: str) -> None:
    reply = await ask(IMAGE, headers={"X-Request-Timeout-Ms": text})
    assert reply.status == 400
    assert "X-Request-Timeout-Ms" in error_of(reply)


async def test_a_timeout_ends_a_request_that_takes_longer(held: Hold) -> None:
    request = await held("X-Request-Timeout-Ms: 200\r\n")
    answer = await asyncio.to_thread(request.connection.recv, 4096)
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert (await counted(request.server))["Generate", "DEADLINE_EXCEEDED"] == 1
    assert not request.server.core.gate.inside


async def test_a_client_that_leaves_ends_its_request(held: Hold, caplog: pytest.LogCaptureFixture) -> None:
    request = await held()
    server = request.server
    assert server.core.gate.inside == 1
    request.connection.close()
    await until(lambda: not server.core.gate.inside)
    assert (await counted(server))["Generate", "CANCELLED"] == 1
    assert unsent_bytes(server) == 0
    assert not caplog.records


async def test_an_answer_counts_until_its_client_has_read_it(start_server: Start) -> None:
    rows = 8000
    server = await start_server(http_address=ANY_PORT, max_request_rows=rows, max_queue_rows=rows)
    assert server.http_address is not None
    body = json.dumps(
        {
            "inputs": [{"name": "latents", "shape": [rows, 4], "datatype": "FP32", "data": [0.5] * (4 * rows)}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    sent = (
        f"POST {INFER} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )
    for reads in (True, False):
        with await asyncio.to_thread(connect, server.http_address) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
            await asyncio.to_thread(connection.sendall, sent)
            await until_unsent(server)
            assert unsent_bytes(server) > rows * 72 * 5  # 72 values, 4 and 1 bytes each
            assert server.core.gate.inside == 1
            if reads:
                answer = await asyncio.to_thread(read_all, connection)
                assert len(answer) > rows * 72 * 5
        await until(lambda: unsent_bytes(server) == 0 and not server.core.gate.inside)


async def until_unsent(server: Server) -> None:
    while not unsent_bytes(server):  # noqa: ASYNC110 - the loop has to run until the engine is done
        await asyncio.sleep(0.001)


async def test_a_client_that_does_not_read_is_cut_off(start_server: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.rest.reply.STALL_S", 0.05)
    server = await start_server(http_address=ANY_PORT, max_request_rows=8000, max_queue_rows=8000)
    assert server.http_address is not None
    body = json.dumps(
        {
            "inputs": [{"name": "latents", "shape": [8000, 4], "datatype": "FP32", "data": [0.5] * 32000}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    sent = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    with await asyncio.to_thread(connect, server.http_address) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        await asyncio.to_thread(connection.sendall, sent)
        await until_unsent(server)
        await until(lambda: unsent_bytes(server) == 0)


async def test_more_requests_than_the_limit_are_refused(held: Hold, ask: Ask) -> None:
    request = await held()
    *_, handler = request.server.core._handlers
    handler.call_limit._max_calls = 1
    reply = await ask(IMAGE)
    assert (reply.status, reply.headers["retry-after"]) == (429, "1")
    assert "max_concurrent_requests" in error_of(reply)
    request.run.release_all()
    assert (await asyncio.to_thread(request.connection.recv, 4096)).startswith(b"HTTP/1.1 200 ")
    await until(lambda: not handler.call_limit.inside)


async def test_a_fault_is_logged_and_not_told(
    api: Server, ask: Ask, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("secret detail")

    monkeypatch.setattr("server.rest.pictures.image_grid", fail)
    reply = await ask("/v1/models/tiny/grid.png")
    assert reply.status == 500
    assert "secret" not in error_of(reply)
    assert "secret detail" in caplog.text
    assert unsent_bytes(api) == 0


async def test_a_full_queue_says_when_to_try_again(api: Server, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any) -> None:
        raise QueueFull("the queue is full", 2500)

    monkeypatch.setattr(api.core.catalog["tiny"].batcher, "submit", refuse)
    reply = await ask(IMAGE)
    assert (reply.status, reply.headers["retry-after"], error_of(reply)) == (429, "3", "the queue is full")


async def test_the_access_log_names_the_caller_and_its_id(start_server: Start, tmp_path: Path) -> None:
    server = await start_server(http_address=ANY_PORT, access_log=str(tmp_path / "log"))
    await ask_server(server, IMAGE, headers={"X-Request-Id": "mine"})
    await ask_server(server, "/v1/models/other/image.png")
    await server.core.close_logs()
    good, bad = map(json.loads, (tmp_path / "log").read_text().splitlines())
    assert good["peer"].startswith("http:127.0.0.1:")
    assert (good["method"], good["request_id"], good["rows"], good["status"]) == ("Generate", "mine", 1, "OK")
    assert bad["status"] == "NOT_FOUND"
