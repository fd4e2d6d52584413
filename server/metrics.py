"""The Prometheus metrics of one server. Nothing is global, so a process can hold many servers.

Nothing is counted here: each scrape reads the statistics of the served versions. The series of a version begin with its
first request, so that an unused version costs nothing, and end when it is replaced or unloaded. Only
`ganserve_model_ready` and `ganserve_model_info` begin when it is loaded.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Final, TypeVar

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from ganserve.foreign import version_of
from ganserve.machine import usable_cores
from server import daemon_threads
from server.gate import Gate
from server.models.catalog import Catalog, ServedModel
from server.request import InFlightRequest
from server.statistics import Histogram, ModelStatistics

_ROW_BOUNDS: Final = tuple(float(2**power) for power in range(11))
_ONNXRUNTIME: Final = ("onnxruntime-gpu", "onnxruntime")  # one package or the other
_Version = tuple[str, str]  # a model and its version; empty for requests that name no served model
_VERSION: Final = ["model", "version"]  # the labels for it
_Family = TypeVar("_Family", CounterMetricFamily, GaugeMetricFamily)


class Metrics(Collector):
    """All metrics of a server. Text from a client becomes a label only if it names a served model.

    Args:
        catalog: the served models.
        gate: tells whether the server lets requests in.
        cores: that the server uses; by default all that the process may use.
    """

    def __init__(self, catalog: Catalog, gate: Gate, cores: int | None = None) -> None:
        self._catalog = catalog
        self._gate = gate
        self._cores = cores or usable_cores()
        self._of_no_model = ModelStatistics()
        self._build = (version_of("ganserve"), platform.python_version(), version_of(*_ONNXRUNTIME))
        self._unread_images: Callable[[], int] = lambda: 0
        self._input_bytes: Callable[[], int] = lambda: 0
        self._unsent_bytes: Callable[[], int] = lambda: 0
        self._failed_versions: Callable[[], Iterable[_Version]] = tuple
        self._loads: Callable[[], Mapping[str, int]] = dict
        self.registry = CollectorRegistry(support_collectors_without_names=True)  # otherwise ?name[]= finds nothing
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.registry.register(self)

    def watch_input(self, unread_images: Callable[[], int], input_bytes: Callable[[], int]) -> None:
        """Sets the functions that measure the input in progress; each scrape calls them in a thread."""
        self._unread_images = unread_images
        self._input_bytes = input_bytes

    def watch_unsent(self, unsent_bytes: Callable[[], int]) -> None:
        """Sets the function that measures the unsent answers; each scrape calls it in a thread."""
        self._unsent_bytes = unsent_bytes

    def watch_versions(
        self, failed_versions: Callable[[], Iterable[_Version]], loads: Callable[[], Mapping[str, int]]
    ) -> None:
        """Sets the functions that list the versions that could not be loaded, and count loads by outcome."""
        self._failed_versions = failed_versions
        self._loads = loads

    def request_answered(self, request: InFlightRequest, status: str, reason: str = "") -> None:
        """Counts one request, on the event loop; see `ModelStatistics.request_answered`.

        A request that names no served model counts under an empty model and version.
        """
        model = self._catalog.version(request.model, request.version) or self._catalog.get(request.model)
        statistics = self._of_no_model if model is None else model.statistics
        statistics.request_answered(request, status, reason)

    def collect(self) -> Iterator[Metric]:
        """Yields all current metrics; may be called in any thread."""
        models = {(model.card.name, str(model.card.version)): model for model in self._catalog.versions()}
        asked = {labels: model for labels, model in models.items() if _is_asked(model)}
        statistics = {labels: model.statistics for labels, model in asked.items()}
        yield from _request_metrics({("", ""): self._of_no_model, **statistics})
        yield from _batch_metrics(statistics)
        yield _gauge(
            "queue_rows",
            "Rows waiting.",
            _VERSION,
            ((version, model.batcher.queued_rows) for version, model in asked.items()),
        )
        yield from _state_metrics(models, is_ready=self._gate.is_ready)
        yield _gauge("accepting_requests", "1 if the server lets requests in.", [], [((), int(self._gate.is_open))])
        yield _gauge(
            "version_failed",
            "Always 1; one series per version in the repository that could not be loaded.",
            _VERSION,
            ((version, 1) for version in self._failed_versions()),
        )
        loads = self._loads().items()
        yield _counter(
            "version_loads", "Versions loaded.", ["outcome"], (((outcome,), count) for outcome, count in loads)
        )
        unread, size, unsent = self._unread_images(), self._input_bytes(), self._unsent_bytes()
        yield _gauge("unread_images", "Images waiting to be decoded or resized, or in progress.", [], [((), unread)])
        yield _gauge("input_bytes", "Bytes of the input in progress, encoded and decoded.", [], [((), size)])
        yield _gauge("unsent_bytes", "Bytes of answers that clients have not received yet.", [], [((), unsent)])
        yield _gauge(
            "abandoned_loads",
            "Loads that have not ended after the load timeout, and hold a thread until they do.",
            [],
            [((), daemon_threads.abandoned())],
        )
        yield _gauge("cores", "Processor cores that the server may use.", [], [((), self._cores)])
        yield _gauge(
            "build_info",
            "Always 1; the labels give versions.",
            ["version", "python", "onnxruntime"],
            [(self._build, 1)],
        )


def _is_asked(model: ServedModel) -> bool:
    return model.statistics.is_used or model.batcher.queued_rows > 0


def _request_metrics(statistics: Mapping[_Version, ModelStatistics]) -> Iterator[Metric]:
    versions = statistics.items()
    yield _counter(
        "requests",
        "Requests answered.",
        [*_VERSION, "method", "status"],
        (((*version, *key), count) for version, of in versions for key, count in of.answered.copy().items()),
    )
    yield _histogram(
        "request_duration_seconds",
        "Time from the arrival of a request to its answer.",
        [*_VERSION, "method"],
        (
            ((*version, method), times)
            for version, of in versions
            for method, times in of.request_durations.copy().items()
        ),
    )
    yield _counter(
        "rejections",
        "Requests refused.",
        [*_VERSION, "reason"],
        (((*version, reason), count) for version, of in versions for reason, count in of.rejected.copy().items()),
    )


def _batch_metrics(statistics: Mapping[_Version, ModelStatistics]) -> Iterator[Metric]:
    versions = statistics.items()
    yield _histogram(
        "phase_duration_seconds",
        "Phases of a request (admission, queue, encode) and of a batch (gather, compute, scatter).",
        [*_VERSION, "phase"],
        (((*version, phase), times) for version, of in versions for phase, times in of.phases.items()),
    )
    batch_rows = {version: Histogram(_ROW_BOUNDS) for version in statistics}
    for version, of in versions:
        for rows, batches in of.batch_sizes().items():
            batch_rows[version].observe(rows, batches)
    yield _histogram("batch_rows", "Rows per batch, without padding.", _VERSION, batch_rows.items())
    yield _counter("rows", "Rows computed.", _VERSION, ((version, rows.total) for version, rows in batch_rows.items()))
    yield _counter(
        "padding_rows",
        "Padding rows computed to fill up batches.",
        _VERSION,
        ((version, of.padding_rows) for version, of in versions),
    )
    yield _counter(
        "engine_busy_core_seconds",
        "Compute time of the engines, multiplied by the cores that each may use.",
        [*_VERSION, "instance_group"],
        (((*version, group), busy_s) for version, of in versions for group, busy_s in of.busy_core_s.copy().items()),
    )
    yield _counter(
        "engine_rebuilds",
        "Rebuilds of broken engines.",
        _VERSION,
        ((version, of.rebuilds) for version, of in versions),
    )


def _state_metrics(models: Mapping[_Version, ServedModel], *, is_ready: bool) -> Iterator[Metric]:
    yield _gauge(
        "model_ready",
        "1 if the model answers, 0 while its engines are being rebuilt and while the server starts or stops.",
        _VERSION,
        ((version, int(is_ready and model.ready)) for version, model in models.items()),
    )
    yield _gauge(
        "model_info",
        "Always 1; one series per served version.",
        [*_VERSION, "backend", "device", "precision"],
        (((*version, model.backend, model.device, model.precision), 1) for version, model in models.items()),
    )


def _filled(family: _Family, values: Iterable[tuple[tuple[str, ...], float]]) -> _Family:
    for labels, value in values:
        family.add_metric(labels, value)
    return family


def _counter(name: str, text: str, labels: Sequence[str], values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    return _filled(CounterMetricFamily(f"ganserve_{name}", text, labels=labels), values)


def _gauge(name: str, text: str, labels: Sequence[str], values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    return _filled(GaugeMetricFamily(f"ganserve_{name}", text, labels=labels), values)


def _histogram(
    name: str, text: str, labels: Sequence[str], histograms: Iterable[tuple[tuple[str, ...], Histogram]]
) -> Metric:
    family = HistogramMetricFamily(f"ganserve_{name}", text, labels=labels)
    for values, histogram in histograms:
        if histogram.is_empty:
            continue
        buckets = list(zip(_bucket_names(histogram.bounds), histogram.cumulative(), strict=True))
        family.add_metric(values, buckets, histogram.total)
    return family


@cache
def _bucket_names(bounds: tuple[float, ...]) -> list[str]:
    return [*map(floatToGoString, bounds), "+Inf"]
