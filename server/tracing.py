"""Spans of OpenTelemetry for --otlp-endpoint: one per request, and one below it for each phase that it reached.

They are made when a request ends, from the phases that it has measured. A thread of OpenTelemetry sends them in
batches; if the collector is slow or gone, spans are lost and no request waits. Without the flag, nothing imports this.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace.propagation import set_span_in_context

from ganserve.foreign import version_of
from server.errors import StartupError
from server.trace_context import TraceContext

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from server.request import InFlightRequest

_SCOPE: Final = "ganserve"
EXPORT_TIMEOUT_S: Final = 5.0  # of one batch, with retries
_CLOSE_TIMEOUT_S: Final = 2.0
_MAX_ATTRIBUTE_LENGTH: Final = 128  # characters of a text from a client
_MAX_MESSAGE_LENGTH: Final = 512
# Statuses that are faults of a server; the others are the caller's.
_FAULTS: Final = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}

_log = logging.getLogger(__name__)


class Tracer:
    """Records requests as spans. Call `record` on the event loop only.

    Args:
        exporter: receives the spans, in a thread.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        resource = Resource.create({"service.name": "ganserve", "service.version": version_of("ganserve")})
        self._provider = TracerProvider(
            resource=resource.merge(OTELResourceDetector().detect()),  # the user's OTEL_ variables win
            span_limits=SpanLimits(max_attribute_length=_MAX_ATTRIBUTE_LENGTH),
            shutdown_on_exit=False,
        )
        self._processor = BatchSpanProcessor(exporter)
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer(_SCOPE)
        self._scope = InstrumentationScope(_SCOPE)
        self._ids = RandomIdGenerator()

    def record(self, request: InFlightRequest, status: str, message: str = "") -> None:
        """Records a request that has ended, below the caller's span, and sets `request.trace` to its own.

        Args:
            request: the request.
            status: name of the gRPC status.
            message: the error message, if it was refused.
        """
        end_ns = time.time_ns()
        begin_ns = end_ns - round((time.perf_counter() - request.began_s) * 1e9)
        span = self._tracer.start_span(
            request.method, _context_of(request.trace), kind=trace.SpanKind.SERVER, start_time=begin_ns
        )
        own = span.get_span_context()
        request.trace = TraceContext(f"{own.trace_id:032x}", f"{own.span_id:016x}", own.trace_flags)
        if not span.is_recording():  # the caller does not sample this trace
            return
        span.set_attributes(
            {
                "rpc.system": "grpc",
                "rpc.method": request.method,
                "rpc.response.status_code": status,
                "ganserve.model": request.model,
                "ganserve.version": request.version,
                "ganserve.rows": request.rows,
                "ganserve.request_id": request.request_id,
            }
        )
        if status in _FAULTS:
            span.set_status(trace.StatusCode.ERROR, message[:_MAX_MESSAGE_LENGTH])
        phase_ns = begin_ns
        for name, seconds in (
            ("admission", request.admission_s),
            ("compute", request.compute_s),
            ("encode", request.encode_s),
        ):
            if seconds is None:
                break
            ended_ns = phase_ns + round(seconds * 1e9)
            self._record_phase(name, own, phase_ns, ended_ns)
            phase_ns = ended_ns
        span.end(end_ns)

    def _record_phase(self, name: str, parent: trace.SpanContext, start_ns: int, end_ns: int) -> None:
        """Records a phase without the locks and checks of a span that is still open, which take most of the time."""
        context = trace.SpanContext(
            parent.trace_id, self._ids.generate_span_id(), is_remote=False, trace_flags=parent.trace_flags
        )
        self._processor.on_end(
            ReadableSpan(
                name,
                context,
                parent,
                self._provider.resource,
                start_time=start_ns,
                end_time=end_ns,
                instrumentation_scope=self._scope,
            )
        )

    def close(self) -> None:
        """Sends the waiting spans, for at most 2 s; do not call it on the event loop."""
        closing = threading.Thread(target=self._provider.shutdown, name="close-tracing", daemon=True)
        closing.start()
        closing.join(_CLOSE_TIMEOUT_S)
        if closing.is_alive():
            _log.warning("--otlp-endpoint: the collector does not answer, so the last spans are lost")


class LoggingExporter(SpanExporter):
    """Sends spans through another exporter, and logs only when that begins to fail and when it works again.

    Args:
        exporter: sends the spans.
        endpoint: its name, for messages.
    """

    def __init__(self, exporter: SpanExporter, endpoint: str) -> None:
        self._exporter = exporter
        self._endpoint = endpoint
        self._is_failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Sends spans; never raises."""
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # noqa: BLE001  # whatever the collector answers must not end the thread
            _log.debug("--otlp-endpoint: %r", error)
            result = SpanExportResult.FAILURE
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._is_failing:
            _log.warning("--otlp-endpoint: spans are lost, because %s does not accept them", self._endpoint)
        elif self._is_failing and not failed:
            _log.info("--otlp-endpoint: %s accepts spans again", self._endpoint)
        self._is_failing = failed
        return result

    def shutdown(self) -> None:
        """Closes the connection."""
        self._exporter.shutdown()


def open_tracer(endpoint: str) -> Tracer:
    """Returns a tracer that sends spans to a collector over OTLP/gRPC. The collector need not run yet.

    Raises:
        StartupError: the endpoint is not a URL.
    """
    try:
        url = urlsplit(endpoint)
        valid = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:  # such as a port of letters
        valid = False
    if not valid:
        raise StartupError(
            f"--otlp-endpoint: {endpoint!r} is not the URL of a collector; write for example http://127.0.0.1:4317"
        )
    # It logs each failed batch and each lost span; LoggingExporter says once what matters.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    return Tracer(LoggingExporter(OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_TIMEOUT_S), endpoint))


def _context_of(parent: TraceContext | None) -> Context:
    """The context with the caller's span as the current one; an empty one begins a new trace."""
    if parent is None:
        return set_span_in_context(trace.INVALID_SPAN)
    remote = trace.SpanContext(
        int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=trace.TraceFlags(parent.flags)
    )
    return set_span_in_context(trace.NonRecordingSpan(remote))
