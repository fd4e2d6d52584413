from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import math
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from server.access_log import AccessLog
from server.errors import PUSHBACK_KEY, InternalError, InvalidRequest, QueueFull, ServerError, Unavailable
from server.gate import Gate
from server.metrics import Metrics
from server.models.catalog import Catalog
from server.request import InFlightRequest
from server.rpc.handler import Behaviour, RequestHandler
from tests.server.behaviours import INTERNAL_MESSAGE, REFUSALS, failing
from tests.server.fronts.served import served
from tests.server.scheduling.held_run import FakeClock, settle, until
from tests.server.served_models import served as served_model


class FakeContext:
    """A context whose metadata may be read only if it is given."""

    def __init__(self, remaining_s: float | None = None, metadata: list[tuple[str, Any]] | None = None) -> None:
        self.remaining_s = remaining_s
        self.metadata = metadata

    def time_remaining(self) -> float | None:
        return self.remaining_s

    def invocation_metadata(self) -> list[tuple[str, Any]]:
        assert self.metadata is not None, "reading metadata costs time"
        return self.metadata

    def peer(self) -> str:
        return "ipv4:127.0.0.1:5"


async def echo(body: bytes, request: InFlightRequest) -> bytes:
    request.model, request.version, request.rows = "tiny", 1, 2
    return body


@pytest.fixture
def gate() -> Gate:
    gate = Gate()
    gate.open()
    return gate


@pytest.fixture
def metrics(gate: Gate) -> Metrics:
    catalog = Catalog()
    catalog.add(served_model())
    return Metrics(catalog, gate)


@pytest.fixture
def handler(gate: Gate, metrics: Metrics) -> RequestHandler:
    return RequestHandler(gate, metrics)


def attempt(
    handler: RequestHandler, behaviour: Behaviour, context: Any = None, *, gated: bool = True
) -> asyncio.Task[bytes]:
    context = FakeContext() if context is None else context

    async def run() -> bytes:
        request = handler.arrive("Generate", context)
        try:
            return await handler.attempt(behaviour, b"body", request, context, gated=gated)
        finally:
            handler.leave(request)

    return asyncio.create_task(run())


def requests(metrics: Metrics, status: str, model: str = "tiny") -> float | None:
    labels = {"model": model, "version": "1" if model else "", "method": "Generate", "status": status}
    return metrics.registry.get_sample_value("ganserve_requests_total", labels)


def rejections(metrics: Metrics, reason: str, model: str = "tiny") -> float | None:
    labels = {"model": model, "version": "1" if model else "", "reason": reason}
    return metrics.registry.get_sample_value("ganserve_rejections_total", labels)


async def test_the_behaviour_computes_the_answer_from_the_body(handler: RequestHandler, metrics: Metrics) -> None:
    assert await attempt(handler, echo) == b"body"
    assert requests(metrics, "OK") == 1


@pytest.mark.parametrize(("remaining_s", "deadline"), [(None, math.inf), (2.5, 1002.5)])
async def test_a_request_knows_its_method_and_deadline(
    handler: RequestHandler, remaining_s: float | None, deadline: float
) -> None:
    FakeClock()
    arrived: list[InFlightRequest] = []

    async def note(body: bytes, request: InFlightRequest) -> bytes:
        arrived.append(request)
        return body

    await attempt(handler, note, FakeContext(remaining_s))
    (request,) = arrived
    assert (request.method, request.deadline, request.request_id) == ("Generate", deadline, "")


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
async def test_refusals_are_counted_by_status_and_reason(
    handler: RequestHandler, metrics: Metrics, error: ServerError
) -> None:
    with pytest.raises(type(error)) as raised:
        await attempt(handler, failing(error), FakeContext(metadata=[]))
    assert raised.value is error
    assert requests(metrics, error.code.name) == 1
    assert rejections(metrics, error.reason) == (None if isinstance(error, InternalError) else 1)


async def test_an_unexpected_error_is_logged_with_its_request_and_hides_its_cause(
    handler: RequestHandler, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InternalError) as raised:
        await attempt(handler, failing(RuntimeError("secret")), FakeContext(metadata=[("x-request-id", "r-17")]))
    assert str(raised.value) == INTERNAL_MESSAGE
    assert requests(metrics, "INTERNAL") == 1
    assert caplog.messages == ["Generate failed (request 'r-17')"]
    assert "secret" in caplog.text


async def test_an_internal_error_logged_elsewhere_is_logged_again_with_its_request(
    handler: RequestHandler, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InternalError):
        await attempt(handler, failing(InternalError()), FakeContext(metadata=[("x-request-id", "r-17")]))
    assert caplog.messages == ["Generate failed (request 'r-17'), see the lines above"]


@pytest.mark.parametrize("value", ["", "a" * 129, "two\nlines", "caf\u00e9", "\x1b[31m", b"bytes"])
async def test_a_request_id_that_is_unsafe_to_log_is_ignored(
    handler: RequestHandler, caplog: pytest.LogCaptureFixture, value: Any
) -> None:
    with pytest.raises(InternalError):
        await attempt(handler, failing(InternalError()), FakeContext(metadata=[("x-request-id", value)]))
    assert caplog.messages == ["Generate failed, see the lines above"]


@pytest.mark.parametrize(
    ("remaining_s", "status", "late"),
    [(None, "CANCELLED", None), (5.0, "CANCELLED", None), (0.0, "DEADLINE_EXCEEDED", 1)],
)
async def test_a_cancelled_request_is_counted_by_its_cause(
    handler: RequestHandler, metrics: Metrics, gate: Gate, remaining_s: float | None, status: str, late: float | None
) -> None:
    entered = asyncio.Event()

    async def wait(_: bytes, request: InFlightRequest) -> bytes:
        request.model = "tiny"
        entered.set()
        await asyncio.Event().wait()
        return b""

    task = attempt(handler, wait, FakeContext(remaining_s))
    await entered.wait()
    assert gate.inside == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert requests(metrics, status) == 1
    assert rejections(metrics, "deadline") == late
    assert gate.inside == 0


async def test_requests_are_not_read_while_the_gate_is_closed(metrics: Metrics) -> None:
    gate = Gate()
    with pytest.raises(Unavailable, match="the server is starting"):
        await attempt(RequestHandler(gate, metrics), failing(AssertionError("it was looked at")))
    assert gate.inside == 0
    assert requests(metrics, "UNAVAILABLE", model="") == 1
    assert rejections(metrics, "unavailable", model="") == 1


async def test_ungated_methods_answer_in_any_state(metrics: Metrics) -> None:
    gate = Gate()

    async def look(body: bytes, _: InFlightRequest) -> bytes:
        assert gate.inside == 0
        return body

    assert await attempt(RequestHandler(gate, metrics), look, gated=False) == b"body"


@pytest.mark.parametrize("behaviour", [echo, failing(InvalidRequest("wrong")), failing(ValueError("unforeseen"))])
async def test_a_message_of_a_stream_is_inside_until_it_leaves(
    handler: RequestHandler, gate: Gate, behaviour: Behaviour
) -> None:
    inside: list[int] = []

    async def look(body: bytes, request: InFlightRequest) -> bytes:
        inside.append(gate.inside)
        return await behaviour(body, request)

    context: Any = FakeContext(metadata=[])
    request = handler.arrive("Generate", context)
    with contextlib.suppress(ServerError):
        await handler.attempt(look, b"body", request, context)
    assert (inside, gate.inside) == ([1], 1)
    handler.leave(request)
    handler.leave(request)
    assert gate.inside == 0


async def test_a_model_is_pinned_until_the_answer_is_made(handler: RequestHandler) -> None:
    catalog, model = Catalog(), served_model()
    catalog.add(model)
    users: list[int] = []

    async def find(body: bytes, request: InFlightRequest) -> bytes:
        users.append(catalog.find("tiny", 0, request).users)
        return body

    await attempt(handler, find)
    assert (users, model.users) == ([1], 0)


async def test_unsent_answers_are_bounded_in_bytes(gate: Gate, metrics: Metrics) -> None:
    handler = RequestHandler(gate, metrics, max_unsent_bytes=10)
    context: Any = FakeContext()
    first, second, third = (handler.arrive("Generate", context) for _ in range(3))
    await handler.attempt(echo, bytes(6), first, context)
    with pytest.raises(QueueFull, match=r"\(6 of 10 bytes, 5 more do not fit\): try again after a pause"):
        await handler.attempt(echo, bytes(5), second, context)
    assert await handler.attempt(echo, bytes(4), third, context) == bytes(4)
    assert handler.unsent_bytes == 10
    handler.leave(first)
    assert (handler.unsent_bytes, gate.inside) == (4, 2)
    handler.leave(second)
    handler.leave(third)
    assert (handler.unsent_bytes, gate.inside) == (0, 0)
    assert rejections(metrics, "queue_full") == 1
    assert requests(metrics, "RESOURCE_EXHAUSTED") == 1


async def test_a_single_answer_is_sent_whatever_its_size(gate: Gate, metrics: Metrics) -> None:
    assert await attempt(RequestHandler(gate, metrics, max_unsent_bytes=3), echo) == b"body"


async def test_the_access_log_has_a_line_for_each_request(gate: Gate, metrics: Metrics, tmp_path: Path) -> None:
    log = AccessLog.open(str(tmp_path / "log"))
    handler = RequestHandler(gate, metrics, log)
    await attempt(handler, echo, FakeContext(metadata=[("other", "x"), ("x-request-id", "mine")]))
    await attempt(handler, echo, FakeContext(metadata=[]))
    with pytest.raises(QueueFull):
        await attempt(handler, failing(QueueFull("try again")), FakeContext(metadata=[]))
    log.close()
    given, made_up, refused = map(json.loads, (tmp_path / "log").read_text().splitlines())
    assert (given["request_id"], given["model"], given["version"], given["rows"]) == ("mine", "tiny", 1, 2)
    assert (given["peer"], given["status"], given["reason"]) == ("ipv4:127.0.0.1:5", "OK", "")
    assert len({made_up["request_id"], refused["request_id"], "", "mine"}) == 4
    assert (refused["status"], refused["reason"]) == ("RESOURCE_EXHAUSTED", "try again")


async def test_a_failed_request_keeps_nothing_alive(handler: RequestHandler, monkeypatch: pytest.MonkeyPatch) -> None:
    class Model:
        pass

    models: list[weakref.ref[Model]] = []

    async def fail(_: bytes, request: InFlightRequest) -> bytes:
        model = Model()
        models.append(weakref.ref(model))
        raise RuntimeError(request.method)

    monkeypatch.setattr(logging.getLogger("server.rpc.handler"), "disabled", True)  # pytest keeps log records
    context: Any = FakeContext(metadata=[])
    gc.disable()
    try:
        with contextlib.suppress(InternalError):
            await handler.attempt(fail, b"", handler.arrive("Generate", context), context, gated=False)
        assert models[0]() is None
    finally:
        gc.enable()


def all_but_the_last(bodies: Sequence[bytes], requests: Sequence[InFlightRequest]) -> list[bytes | None]:
    for request in requests:
        request.model, request.version, request.rows = "tiny", 1, 2
    return [*bodies[:-1], None]


class TestRequestsThatComeTogether:
    """Those that are answered at once are counted like all others."""

    class FakeCall(FakeContext):
        def __init__(self) -> None:
            super().__init__()
            self.ends: list[Callable[[], object]] = []

        def add_done_callback(self, callback: Callable[[], object]) -> None:
            self.ends.append(callback)

    @pytest.fixture
    def calls(self) -> Any:
        return [self.FakeCall() for _ in range(3)]

    async def test_each_is_inside_until_its_answer_is_sent(
        self, handler: RequestHandler, gate: Gate, metrics: Metrics, calls: Any
    ) -> None:
        method = handler.unary("Generate", echo, together=all_but_the_last)
        assert method.answer_together([b"a", b"bb", b"ccc"], calls) == [b"a", b"bb", None]
        assert (gate.inside, gate.entered, handler.unsent_bytes) == (2, 2, 3)
        assert requests(metrics, "OK") == 2
        for call in calls:
            for end in call.ends:
                end()
        assert (gate.inside, handler.unsent_bytes, calls[2].ends) == (0, 0, [])

    @pytest.mark.parametrize("state", ["starting", "draining"])
    async def test_none_is_answered_while_the_gate_is_closed(self, metrics: Metrics, calls: Any, state: str) -> None:
        gate = Gate()
        if state == "draining":
            gate.open()
            gate.drain()
        method = RequestHandler(gate, metrics).unary("Generate", echo, together=all_but_the_last)
        assert method.answer_together([b"a", b"b", b"c"], calls) == [None] * 3

    async def test_answers_without_room_are_left_over(self, gate: Gate, metrics: Metrics, calls: Any) -> None:
        method = RequestHandler(gate, metrics, max_unsent_bytes=3).unary("Generate", echo, together=all_but_the_last)
        assert method.answer_together([b"aa", b"bb", b"c"], calls) == [b"aa", None, None]
        assert requests(metrics, "OK") == 1
        assert gate.inside == 1

    async def test_a_method_without_a_faster_way_leaves_all_over(self, handler: RequestHandler, calls: Any) -> None:
        assert handler.unary("Generate", echo).answer_together([b"a", b"b", b"c"], calls) == [None] * 3


Serve = Callable[..., Any]
LARGE = 64 << 20  # more than a connection buffers


@pytest.fixture
async def call_unary(handler: RequestHandler, front: str) -> AsyncIterator[Serve]:
    """Starts a server with one method, and returns a callable for it."""
    async with contextlib.AsyncExitStack() as opened:

        async def serve(behaviour: Behaviour, *, read_later: bool = False, **more: Any) -> Any:
            path = "/test.Service/Generate"
            address = await opened.enter_async_context(
                served({path: handler.unary("Generate", behaviour, **more)}, front)
            )
            channel = grpc.aio.insecure_channel(address, [("grpc.max_receive_message_length", -1)])
            await opened.enter_async_context(channel)
            return (channel.unary_stream if read_later else channel.unary_unary)(path)

        yield serve


async def test_a_unary_request_leaves_the_gate_once_its_answer_is_sent(call_unary: Serve, gate: Gate) -> None:
    inside: list[int] = []

    async def look(body: bytes, _: InFlightRequest) -> bytes:
        inside.append(gate.inside)
        return body

    assert await (await call_unary(look))(b"body") == b"body"
    assert inside == [1]
    await until(lambda: gate.inside == 0)


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_unary_answer_is_counted_until_it_is_read_or_its_client_disconnects(
    call_unary: Serve, handler: RequestHandler, gate: Gate, leaves: bool
) -> None:
    async def make(body: bytes, _: InFlightRequest) -> bytes:
        return body * LARGE

    call = (await call_unary(make, read_later=True))(b"x")
    await until(lambda: handler.unsent_bytes == LARGE)
    await asyncio.gather(*(settle() for _ in range(20)))
    assert (handler.unsent_bytes, gate.inside) == (LARGE, 1)
    if leaves:
        call.cancel()
    else:
        assert len(await call.read()) == LARGE
    await until(lambda: (handler.unsent_bytes, gate.inside) == (0, 0))


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
async def test_a_unary_refusal_is_sent_with_its_status_and_remedy(
    call_unary: Serve, gate: Gate, error: ServerError
) -> None:
    call = await call_unary(failing(error))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call(b"")
    assert (raised.value.code(), raised.value.details()) == (error.code, str(error))
    await until(lambda: gate.inside == 0)


@pytest.mark.parametrize(("retry_after_ms", "sent"), [(250, "250"), (0, "0"), (None, None)])
async def test_a_full_queue_sends_a_retry_time(call_unary: Serve, retry_after_ms: int | None, sent: str | None) -> None:
    call = await call_unary(failing(QueueFull("full", retry_after_ms)))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call(b"")
    assert dict(raised.value.trailing_metadata()).get(PUSHBACK_KEY) == sent


async def test_a_unary_internal_error_hides_its_cause(call_unary: Serve, caplog: pytest.LogCaptureFixture) -> None:
    call = await call_unary(failing(RuntimeError("secret")))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call(b"", metadata=[("x-request-id", "r-17")])
    assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.INTERNAL, INTERNAL_MESSAGE)
    assert ("server.rpc.handler", logging.ERROR, "Generate failed (request 'r-17')") in caplog.record_tuples


async def test_a_unary_deadline_reaches_the_behaviour(call_unary: Serve) -> None:
    async def tell(_: bytes, request: InFlightRequest) -> bytes:
        return repr(request.deadline - asyncio.get_running_loop().time()).encode()

    call = await call_unary(tell)
    assert 0 < float(await call(b"", timeout=60)) < 61
    assert await call(b"") == b"inf"
