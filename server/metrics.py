"""Every Prometheus metric of one server, and their HTTP endpoint. Nothing is global, so tests can build many servers.

Nothing is counted here: the values are read from the statistics of the served versions when somebody looks.
"""

from __future__ import annotations

import platform
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, TypeVar

from prometheus_client import CollectorRegistry, GCCollector, MetricsHandler, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from ganserve.foreign import version_of
from server.config import Address
from server.engines.base import usable_cores
from server.models.catalog import ServedModel
from server.request import Call
from server.statistics import Histogram, ModelStatistics
from server.version_history import VersionHistory

_STOP_POLL_S: Final = 0.1  # how long the endpoint may take to notice that it is closed
_ROW_BOUNDS: Final = tuple(float(2**power) for power in range(11))
_ONNXRUNTIME: Final = ("onnxruntime-gpu", "onnxruntime")  # one package or the other
_Family = TypeVar("_Family", CounterMetricFamily, GaugeMetricFamily)


class Metrics(Collector):
    """All metrics. A name that a caller sends becomes a label only if a model of that name is served, or was.

    Args:
        catalog: the served models, which threads may read.
    """

    def __init__(self, catalog: Mapping[str, ServedModel]) -> None:
        self._catalog = catalog
        self._history = VersionHistory(catalog)
        self._build = (version_of("ganserve"), platform.python_version(), version_of(*_ONNXRUNTIME))
        self._unread_images: Callable[[], int] = lambda: 0
        self._input_bytes: Callable[[], int] = lambda: 0
        self._unsent_bytes: Callable[[], int] = lambda: 0
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.registry.register(self)

    def watch_input(self, unread_images: Callable[[], int], input_bytes: Callable[[], int]) -> None:
        """Has these asked, in a thread of the endpoint, whenever somebody looks."""
        self._unread_images = unread_images
        self._input_bytes = input_bytes

    def watch_unsent(self, unsent_bytes: Callable[[], int]) -> None:
        """Has this asked in the same way."""
        self._unsent_bytes = unsent_bytes

    def request_answered(self, call: Call, status: str, reason: str = "") -> None:
        """Counts one request, on the event loop; the arguments are those of `ModelStatistics.request_answered`."""
        self._history.statistics_of(call).request_answered(call, status, reason)

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now; in any thread."""
        totals = self._history.totals()
        yield from _request_metrics({"": self._history.of_no_model(), **totals})
        yield from _batch_metrics(totals)
        yield from _served_metrics(list(self._catalog.values()))
        unread, size = self._unread_images(), self._input_bytes()
        yield _gauge("unread_images", "Images that wait to be decoded or resized, or are being so.", [], [((), unread)])
        yield _gauge("input_bytes", "Bytes of the images that are in work, as they came and read.", [], [((), size)])
        unsent = self._unsent_bytes()
        yield _gauge("unsent_bytes", "Bytes of answers that are made and not taken by callers.", [], [((), unsent)])
        yield _gauge("cores", "Processor cores that the server may use.", [], [((), usable_cores())])
        yield _gauge("build_info", "1 for what serves.", ["version", "python", "onnxruntime"], [(self._build, 1)])


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


def _request_metrics(statistics: Mapping[str, ModelStatistics]) -> Iterator[Metric]:
    """What is counted by method; also for requests that are for no model, whose label is empty."""
    yield _counter(
        "requests",
        "Requests answered.",
        ["model", "method", "status"],
        (((name, *key), count) for name, model in statistics.items() for key, count in model.answered.copy().items()),
    )
    yield _histogram(
        "request_duration_seconds",
        "From the arrival of a request to its answer.",
        ["model", "method"],
        (
            ((name, method), durations)
            for name, model in statistics.items()
            for method, durations in model.request_durations.copy().items()
        ),
    )
    yield _counter(
        "rejections",
        "Requests refused.",
        ["model", "reason"],
        (((name, reason), n) for name, model in statistics.items() for reason, n in model.rejected.copy().items()),
    )


def _batch_metrics(statistics: Mapping[str, ModelStatistics]) -> Iterator[Metric]:
    models = statistics.items()
    yield _histogram(
        "phase_duration_seconds",
        "Parts of the way: admission, queue and encode of a request; gather, compute and scatter of a batch.",
        ["model", "phase"],
        (((name, phase), times) for name, model in models for phase, times in model.phases.items()),
    )
    sizes = {name: model.batch_sizes() for name, model in models}
    batch_rows = {name: Histogram(_ROW_BOUNDS) for name in sizes}
    for name, batches in sizes.items():
        for rows, times in batches.items():
            batch_rows[name].observe(rows, times)
    per_model = ["model"]
    yield _histogram(
        "batch_rows", "Rows of a batch, without padding.", per_model, (((n,), rows) for n, rows in batch_rows.items())
    )
    yield _counter("rows", "Rows computed.", per_model, (((n,), rows.total) for n, rows in batch_rows.items()))
    yield _counter(
        "padding_rows",
        "Rows computed for nobody, to fill a batch up.",
        per_model,
        (((name,), model.padding_rows) for name, model in models),
    )
    yield _counter(
        "engine_busy_core_seconds",
        "Time that engines computed, times the cores that they may use.",
        ["model", "instance_group"],
        (((name, group), s) for name, model in models for group, s in model.busy_core_s.items()),
    )
    yield _counter(
        "engine_rebuilds",
        "Engines that failed for good and were replaced.",
        per_model,
        (((name,), model.rebuilds) for name, model in models),
    )


def _served_metrics(models: Iterable[ServedModel]) -> Iterator[Metric]:
    """What is true of the versions that are served now."""
    by_name = {model.card.name: model for model in models}
    yield _gauge(
        "queue_rows",
        "Rows that wait.",
        ["model"],
        (((n,), model.statistics.queue_rows) for n, model in by_name.items()),
    )
    yield _gauge(
        "model_ready",
        "1 if the model answers, 0 while its engines are being rebuilt.",
        ["model"],
        (((name,), int(model.ready)) for name, model in by_name.items()),
    )
    yield _gauge(
        "model_info",
        "1 for each served version.",
        ["model", "version", "backend", "device", "precision"],
        (
            ((name, str(model.card.version), model.backend, model.device, model.precision), 1)
            for name, model in by_name.items()
        ),
    )


def _filled(family: _Family, values: Iterable[tuple[tuple[str, ...], float]]) -> _Family:
    for labels, value in values:
        family.add_metric(labels, value)
    return family


def _counter(name: str, text: str, labels: list[str], values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    return _filled(CounterMetricFamily(f"ganserve_{name}", text, labels=labels), values)


def _gauge(name: str, text: str, labels: list[str], values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    return _filled(GaugeMetricFamily(f"ganserve_{name}", text, labels=labels), values)


def _histogram(
    name: str, text: str, labels: list[str], histograms: Iterable[tuple[tuple[str, ...], Histogram]]
) -> Metric:
    family = HistogramMetricFamily(f"ganserve_{name}", text, labels=labels)
    for values, histogram in histograms:
        bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
        family.add_metric(values, list(zip(bounds, histogram.cumulative(), strict=True)), histogram.total)
    return family
