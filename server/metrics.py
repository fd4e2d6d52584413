"""The Prometheus metrics of one server and their HTTP endpoint. Nothing is global, so tests can build many servers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, MetricsHandler

from server.config import Address

_LATENCY_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_STOP_POLL_S = 0.1  # how long the endpoint may take to notice that it is closed
_ROW_BUCKETS = tuple(2**power for power in range(11))


class Metrics:
    """All metrics. Names that clients send become labels only once `add_model` has made them known."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._models: set[str] = set()
        self._requests = Counter(
            "ganserve_requests", "Requests answered.", ["model", "method", "status"], registry=registry
        )
        self._request_seconds = Histogram(
            "ganserve_request_duration_seconds",
            "From the arrival of a request to its answer.",
            ["model", "method"],
            buckets=_LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._queue_seconds = Histogram(
            "ganserve_queue_duration_seconds",
            "How long a request waited before its first rows were computed.",
            ["model"],
            buckets=_LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._compute_seconds = Histogram(
            "ganserve_compute_duration_seconds",
            "How long a batch took to compute.",
            ["model"],
            buckets=_LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._batch_rows = Histogram(
            "ganserve_batch_rows", "Rows of a batch.", ["model"], buckets=_ROW_BUCKETS, registry=registry
        )
        self._rows = Counter("ganserve_rows", "Rows computed.", ["model"], registry=registry)
        self._queue_rows = Gauge("ganserve_queue_rows", "Rows that wait.", ["model"], registry=registry)
        self._unread_images = Gauge(
            "ganserve_unread_images", "Images that wait to be decoded or resized, or are being so.", registry=registry
        )
        self._input_bytes = Gauge(
            "ganserve_input_bytes", "Bytes of the images that are in work, as they came and read.", registry=registry
        )
        self._info = Gauge(
            "ganserve_model_info",
            "1 for each served version.",
            ["model", "version", "backend", "device"],
            registry=registry,
        )

    def watch_input(self, unread_images: Callable[[], int], input_bytes: Callable[[], int]) -> None:
        """Has these asked, in a thread of the endpoint, whenever somebody looks."""
        self._unread_images.set_function(unread_images)
        self._input_bytes.set_function(input_bytes)

    def add_model(self, name: str, version: int, backend: str, device: str) -> None:
        """Makes a served model known."""
        self._models.add(name)
        self._info.labels(name, str(version), backend, device).set(1)

    def observer(self, name: str) -> ModelMetrics:
        """The observer for the batcher of a model."""
        return ModelMetrics(
            self._queue_rows.labels(name),
            self._queue_seconds.labels(name),
            self._compute_seconds.labels(name),
            self._batch_rows.labels(name),
            self._rows.labels(name),
        )

    def request_answered(self, model: str, method: str, status: str, seconds: float) -> None:
        """Counts one request; `model` is what the client sent."""
        label = model if model in self._models else ""
        self._requests.labels(label, method, status).inc()
        self._request_seconds.labels(label, method).observe(seconds)


class ModelMetrics:
    """What the batcher of one model tells; a `BatchObserver`."""

    def __init__(
        self,
        queue_rows: Gauge,
        queue_seconds: Histogram,
        compute_seconds: Histogram,
        batch_rows: Histogram,
        rows: Counter,
    ) -> None:
        self._queue_rows = queue_rows
        self._queue_seconds = queue_seconds
        self._compute_seconds = compute_seconds
        self._batch_rows = batch_rows
        self._rows = rows

    def queue_changed(self, rows: int) -> None:
        """So many rows wait now."""
        self._queue_rows.set(rows)

    def request_waited(self, seconds: float) -> None:
        """The first rows of a request left the queue after so long."""
        self._queue_seconds.observe(seconds)

    def batch_computed(self, rows: int, seconds: float) -> None:
        """A batch of so many rows took so long."""
        self._compute_seconds.observe(seconds)
        self._batch_rows.observe(rows)
        self._rows.inc(rows)


class MetricsEndpoint:
    """Serves /metrics over HTTP in a thread of its own, from construction to `close`.

    Raises:
        OSError: it cannot listen there.
    """

    def __init__(self, metrics: Metrics, address: Address) -> None:
        self._http = _HttpServer((address.host, address.port), MetricsHandler.factory(metrics.registry))
        self.address = Address(address.host, self._http.server_port)
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(_STOP_POLL_S,), name="metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stops listening; returns when the thread has ended."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _HttpServer(ThreadingHTTPServer):
    """Like its base, and for IPv6 too."""

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][0]
        super().__init__(address, handler)
