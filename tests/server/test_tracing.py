"""Spans, with an exporter in memory, a collector on the loopback, and collectors that fail."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from ganserve.v1 import generator_pb2 as pb
from ganserve.v1.generator_pb2_grpc import GeneratorStub
from server import tracing
from server.app import Server
from server.errors import StartupError
from server.request import InFlightRequest
from server.trace_context import TraceContext
from server.tracing import LoggingExporter, Tracer, open_tracer

ROOT = Path(__file__).parents[2]
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def request(**fields: Any) -> InFlightRequest:
    return InFlightRequest(**{"method": "Generate", "began_s": time.perf_counter(), "request_id": "r1", **fields})


def recorded(*requests: tuple[InFlightRequest, str]) -> list[ReadableSpan]:
    exporter = InMemorySpanExporter()
    tracer = Tracer(exporter)
    for each, status in requests:
        tracer.record(each, status, "why" if status != "OK" else "")
    tracer.close()
    return list(exporter.get_finished_spans())


def test_a_request_becomes_a_span_with_its_phases_below_it() -> None:
    before_ns = time.time_ns()
    *phases, span = recorded(
        (
            request(
                model="tiny",
                version=3,
                rows=4,
                began_s=time.perf_counter() - 3,
                admission_s=0.5,
                compute_s=2.0,
                encode_s=0.25,
            ),
            "OK",
        )
    )
    assert (span.name, span.kind, span.parent, span.status.status_code) == (
        "Generate",
        SpanKind.SERVER,
        None,
        StatusCode.UNSET,
    )
    assert span.attributes == {
        "rpc.system": "grpc",
        "rpc.method": "Generate",
        "rpc.response.status_code": "OK",
        "ganserve.model": "tiny",
        "ganserve.version": 3,
        "ganserve.rows": 4,
        "ganserve.request_id": "r1",
    }
    assert span.start_time is not None
    assert span.end_time is not None
    assert before_ns <= span.end_time <= time.time_ns()
    assert 3e9 <= span.end_time - span.start_time < 63e9
    begin = span.start_time
    assert [phase.name for phase in phases] == ["admission", "compute", "encode"]
    for phase, seconds in zip(phases, (0.5, 2.0, 0.25), strict=True):
        assert (phase.start_time, phase.end_time) == (begin, begin + round(seconds * 1e9))
        assert phase.parent == span.context
        begin += round(seconds * 1e9)


def test_a_span_is_below_the_span_of_its_caller_and_the_request_gets_its_id() -> None:
    ours = request(trace=TraceContext(TRACE, SPAN, 1))
    (span,) = recorded((ours, "OK"))
    assert span.parent is not None
    assert span.context is not None
    assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}", span.parent.is_remote) == (TRACE, SPAN, True)
    assert ours.trace == TraceContext(TRACE, f"{span.context.span_id:016x}", 1)


def test_a_request_without_a_trace_begins_one() -> None:
    first, second = request(), request()
    spans = recorded((first, "OK"), (second, "OK"))
    assert first.trace is not None
    assert second.trace is not None
    assert first.trace.trace_id != second.trace.trace_id
    assert [f"{span.context.trace_id:032x}" for span in spans if span.context] == [
        first.trace.trace_id,
        second.trace.trace_id,
    ]


def test_a_trace_that_the_caller_does_not_sample_is_not_recorded_but_keeps_its_id() -> None:
    unsampled = request(trace=TraceContext(TRACE, SPAN, 0), admission_s=1.0)
    assert recorded((unsampled, "OK")) == []
    assert unsampled.trace is not None
    assert unsampled.trace.trace_id == TRACE


@pytest.mark.parametrize(
    ("status", "expected"),
    [("INTERNAL", StatusCode.ERROR), ("DEADLINE_EXCEEDED", StatusCode.ERROR), ("INVALID_ARGUMENT", StatusCode.UNSET)],
)
def test_only_faults_of_the_server_are_errors(status: str, expected: StatusCode) -> None:
    (span,) = recorded((request(), status))
    assert span.status.status_code == expected
    assert span.status.description == ("why" if expected is StatusCode.ERROR else None)


def test_text_from_clients_is_cut() -> None:
    (span,) = recorded((request(model="m" * 10_000, request_id="r" * 10_000), "NOT_FOUND"))
    assert span.attributes is not None
    assert max(len(str(value)) for value in span.attributes.values()) <= 128


def test_the_users_resource_attributes_win(monkeypatch: pytest.MonkeyPatch) -> None:
    (span,) = recorded((request(), "OK"))
    assert span.resource.attributes["service.name"] == "ganserve"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "faces")
    (span,) = recorded((request(), "OK"))
    assert span.resource.attributes["service.name"] == "faces"


class Collector(TraceServiceServicer):
    """Collects spans, or fails."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.failure: grpc.StatusCode | None = None
        self.released = threading.Event()
        self.released.set()

    def Export(  # noqa: N802  # the name of the RPC
        self, request: ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> ExportTraceServiceResponse:
        self.released.wait(60)
        if self.failure is not None:
            context.abort(self.failure, "no")
        self.spans += [span for of in request.resource_spans for scope in of.scope_spans for span in scope.spans]
        return ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    """A collector and its URL."""
    servicer = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]  # generated
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"http://127.0.0.1:{port}"
    servicer.released.set()
    server.stop(None).wait(20)


async def generate(server: Server, connect: Callable[[Server], Any], **settings: Any) -> Any:
    stub: Any = GeneratorStub(connect(server))  # type: ignore[no-untyped-call]  # generated
    return await stub.Generate(
        pb.GenerateRequest(model="tiny", seeded=pb.SeededLatents(seed=1, count=2)), timeout=60, **settings
    )


async def test_spans_reach_a_collector_and_the_access_log_has_their_trace(
    collector: tuple[Collector, str], start_server: Any, connect: Any, tmp_path: Path
) -> None:
    collected, url = collector
    log = tmp_path / "access.jsonl"
    server = await start_server(otlp_endpoint=url, access_log=str(log))
    await generate(server, connect, metadata=(("traceparent", f"00-{TRACE}-{SPAN}-01"),))
    await generate(server, connect)
    await server.close()
    first, second = (json.loads(line) for line in log.read_text().splitlines())
    assert first["trace_id"] == TRACE
    assert len(second["trace_id"]) == 32
    spans = {(span.trace_id.hex(), span.name): span for span in collected.spans}
    names = ("Generate", "admission", "compute", "encode")
    assert spans.keys() == {(line["trace_id"], name) for line in (first, second) for name in names}
    assert spans[TRACE, "Generate"].parent_span_id.hex() == SPAN
    assert spans[TRACE, "compute"].parent_span_id == spans[TRACE, "Generate"].span_id


async def test_the_access_log_has_the_callers_trace_without_a_collector(
    start_server: Any, connect: Any, tmp_path: Path
) -> None:
    log = tmp_path / "access.jsonl"
    server = await start_server(access_log=str(log))
    for value in (f"00-{TRACE}-{SPAN}-01", "00-forged\\n-01-x"):
        await generate(server, connect, metadata=(("traceparent", value),))
    await server.close()
    assert [json.loads(line)["trace_id"] for line in log.read_text().splitlines()] == [TRACE, ""]


async def test_a_collector_that_is_gone_or_hangs_delays_neither_requests_nor_the_end(
    collector: tuple[Collector, str], start_server: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "_CLOSE_TIMEOUT_S", 0.05)
    collected, url = collector
    collected.released.clear()
    for endpoint in (url, "http://127.0.0.1:1"):
        server = await start_server(otlp_endpoint=endpoint)
        await asyncio.gather(*(generate(server, connect) for _ in range(20)))
        await asyncio.wait_for(server.close(), 20)
    assert collected.spans == []


class Scripted(SpanExporter):
    """Answers as told; an exception is raised."""

    def __init__(self, *answers: SpanExportResult | Exception) -> None:
        self.answers = list(answers)
        self.is_shut_down = False

    def export(self, spans: object) -> SpanExportResult:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def shutdown(self) -> None:
        self.is_shut_down = True


def test_failures_are_logged_once_until_the_collector_works_again(caplog: pytest.LogCaptureFixture) -> None:
    success, failure = SpanExportResult.SUCCESS, SpanExportResult.FAILURE
    inner = Scripted(success, failure, RuntimeError("odd"), failure, success, success, failure)
    exporter = LoggingExporter(inner, "http://c:4317")
    with caplog.at_level(logging.INFO):
        results = [exporter.export([]) for _ in range(7)]
    exporter.shutdown()
    assert [result is success for result in results] == [True, False, False, False, True, True, False]
    assert caplog.messages == [
        "--otlp-endpoint: spans are lost, because http://c:4317 does not accept them",
        "--otlp-endpoint: http://c:4317 accepts spans again",
        "--otlp-endpoint: spans are lost, because http://c:4317 does not accept them",
    ]
    assert inner.is_shut_down


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4317", "ftp://c", "http://", "http://c:port", "http://[::1", ""])
def test_an_endpoint_that_is_no_url_is_refused(endpoint: str) -> None:
    with pytest.raises(StartupError, match=r"^--otlp-endpoint: .* is not the URL of a collector; write for example"):
        open_tracer(endpoint)


MISSING = """
import sys
sys.modules["opentelemetry"] = None
from server.__main__ import main
main(prog_name="server")
"""


def test_a_missing_package_is_one_line_with_the_remedy(repository: Path) -> None:
    flags = ["--models", str(repository), "--address", "127.0.0.1:0", "--otlp-endpoint", "http://127.0.0.1:4317"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", MISSING, *flags],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("Error: --otlp-endpoint: needs OpenTelemetry (")
    assert "pip install '.[otel]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_the_flag_nothing_of_it_is_imported() -> None:
    code = (
        "import sys, server.app, server.rpc.handler\n"
        "assert not [name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'server.tracing'))]"
    )
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, timeout=60)
