from __future__ import annotations

import re
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from ganserve.machine import usable_cores
from server.gate import Gate
from server.metrics import Metrics
from server.models.catalog import Catalog
from server.statistics import BatchTimes
from tests.server.served_models import call_of, served

ABBREVIATIONS = {"s", "ms", "us", "ns", "sec", "b", "kb", "mb", "pct", "milliseconds", "megabytes", "percent"}
TYPES = {"gauge", "counter", "histogram", "summary"}


@pytest.fixture
def catalog() -> Catalog:
    catalog = Catalog()
    catalog.add(served(queued_rows=5))
    return catalog


@pytest.fixture
def gate() -> Gate:
    gate = Gate()
    gate.open()
    return gate


@pytest.fixture
def metrics(catalog: Catalog, gate: Gate) -> Metrics:
    return Metrics(catalog, gate)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"ganserve_{name}", labels)


def fill(metrics: Metrics, catalog: Catalog) -> None:
    metrics.watch_versions(lambda: [("tiny", "7")], lambda: {"ok": 3, "failed": 2})
    """Gives every metric a value."""
    statistics = catalog["tiny"].statistics
    statistics.batch_computed(BatchTimes(3, 4, 0.001, 0.02, 0.003, "wide", 2))
    statistics.request_waited(0.5)
    statistics.engine_rebuilt()
    call = call_of("tiny")
    call.admission_s = call.encode_s = 0.5
    metrics.request_answered(call, "OK")
    metrics.request_answered(call_of("tiny"), "RESOURCE_EXHAUSTED", "queue_full")


def test_each_metric_has_the_value_that_was_counted(metrics: Metrics, catalog: Catalog) -> None:
    fill(metrics, catalog)
    tiny = {"model": "tiny", "version": "1"}
    request = {**tiny, "method": "Generate"}
    assert value(metrics, "requests_total", **request, status="OK") == 1
    assert value(metrics, "requests_total", **request, status="RESOURCE_EXHAUSTED") == 1
    assert value(metrics, "request_duration_seconds_count", **request) == 2
    assert value(metrics, "rejections_total", **tiny, reason="queue_full") == 1
    for phase, seconds in {
        "admission": 0.5,
        "queue": 0.5,
        "gather": 0.001,
        "compute": 0.02,
        "scatter": 0.003,
        "encode": 0.5,
    }.items():
        assert value(metrics, "phase_duration_seconds_count", **tiny, phase=phase) == 1
        assert value(metrics, "phase_duration_seconds_sum", **tiny, phase=phase) == seconds
    assert value(metrics, "phase_duration_seconds_bucket", **tiny, phase="compute", le="0.01") == 0
    assert value(metrics, "phase_duration_seconds_bucket", **tiny, phase="compute", le="0.02") == 1
    assert value(metrics, "batch_rows_bucket", **tiny, le="2.0") == 0
    assert value(metrics, "batch_rows_bucket", **tiny, le="4.0") == 1
    assert value(metrics, "batch_rows_sum", **tiny) == value(metrics, "rows_total", **tiny) == 3
    assert value(metrics, "padding_rows_total", **tiny) == 1
    assert value(metrics, "engine_busy_core_seconds_total", **tiny, instance_group="wide") == pytest.approx(0.04)
    assert value(metrics, "engine_rebuilds_total", **tiny) == 1
    assert value(metrics, "queue_rows", **tiny) == 5
    assert value(metrics, "model_ready", **tiny) == 1
    assert value(metrics, "model_info", **tiny, backend="onnx", device="cpu", precision="fp32") == 1
    assert value(metrics, "cores") == usable_cores()


def test_counters_of_a_model_start_at_zero_with_its_first_request(metrics: Metrics, catalog: Catalog) -> None:
    counters = ("rows_total", "padding_rows_total", "engine_rebuilds_total")
    catalog.add(served())
    assert [value(metrics, name, model="tiny", version="1") for name in counters] == [None] * 3
    metrics.request_answered(call_of("tiny"), "INVALID_ARGUMENT", "invalid_argument")
    assert [value(metrics, name, model="tiny", version="1") for name in counters] == [0] * 3


def test_a_model_that_nobody_asked_has_two_series(metrics: Metrics, catalog: Catalog) -> None:
    catalog.add(served())
    samples = [sample for family in metrics.collect() for sample in family.samples if sample.labels.get("model")]
    assert {sample.name for sample in samples} == {"ganserve_model_info", "ganserve_model_ready"}
    assert len(samples) == 2


def test_a_model_whose_first_request_waits_shows_its_queue(metrics: Metrics) -> None:
    assert value(metrics, "queue_rows", model="tiny", version="1") == 5


def test_histograms_begin_with_their_first_value(metrics: Metrics, catalog: Catalog) -> None:
    catalog["tiny"].statistics.request_waited(0.5)
    tiny = {"model": "tiny", "version": "1"}
    assert value(metrics, "phase_duration_seconds_count", **tiny, phase="queue") == 1
    assert value(metrics, "phase_duration_seconds_count", **tiny, phase="compute") is None
    assert value(metrics, "batch_rows_count", **tiny) is None


@pytest.mark.parametrize(("asked", "max_series", "max_bytes"), [(False, 2, 200), (True, 250, 25_000)])
def test_the_cost_of_a_scrape_per_model_is_bounded(asked: bool, max_series: int, max_bytes: int, gate: Gate) -> None:
    models = 20 if asked else 500
    catalog = Catalog()
    for number in range(models):
        catalog.add(served(f"model{number:04d}"))
    metrics = Metrics(catalog, gate)
    for model in catalog.values() if asked else ():
        for rows in range(1, 200):  # every batch size
            model.statistics.batch_computed(BatchTimes(rows, 256, 0.001, 0.02, 0.003, "wide", 2))
        model.statistics.request_waited(0.5)
        for status in ("OK", "RESOURCE_EXHAUSTED"):
            call = call_of(model.card.name)
            call.admission_s = call.encode_s = 0.5
            metrics.request_answered(call, status, "queue_full")
    page = generate_latest(metrics.registry).decode()
    assert len(re.findall("^[a-z].*model=.model", page, re.MULTILINE)) <= max_series * models
    assert len(page) <= max_bytes * models + 20_000


def test_models_are_ready_only_while_the_server_is_ready(catalog: Catalog) -> None:
    gate = Gate()
    metrics = Metrics(catalog, gate)

    def ready_and_accepting() -> tuple[float | None, float | None]:
        return value(metrics, "model_ready", model="tiny", version="1"), value(metrics, "accepting_requests")

    assert ready_and_accepting() == (0, 0)
    gate.open()
    assert ready_and_accepting() == (1, 1)
    catalog.add(served(broken=True))
    assert ready_and_accepting() == (0, 1)
    catalog.add(served())
    gate.retire()
    assert ready_and_accepting() == (0, 1)
    gate.drain()
    assert ready_and_accepting() == (0, 0)


def test_metrics_can_be_filtered_by_name(metrics: Metrics, catalog: Catalog) -> None:
    fill(metrics, catalog)
    page = generate_latest(metrics.registry.restricted_registry(["ganserve_rows_total", "ganserve_cores"])).decode()
    names = {line.partition("{")[0].partition(" ")[0] for line in page.splitlines() if not line.startswith("#")}
    assert names == {"ganserve_rows_total", "ganserve_cores"}


def test_the_input_in_progress_is_read_at_each_scrape(metrics: Metrics) -> None:
    assert (value(metrics, "unread_images"), value(metrics, "input_bytes")) == (0, 0)
    unread = [3]
    metrics.watch_input(lambda: unread[0], lambda: 500)
    assert (value(metrics, "unread_images"), value(metrics, "input_bytes")) == (3, 500)
    metrics.watch_unsent(lambda: 70)
    assert value(metrics, "unsent_bytes") == 70
    unread[0] = 4
    assert value(metrics, "unread_images") == 4


def test_build_info_has_the_versions_of_the_runtime(metrics: Metrics) -> None:
    (family,) = [family for family in metrics.collect() if family.name == "ganserve_build_info"]
    (sample,) = family.samples
    assert set(sample.labels) == {"version", "python", "onnxruntime"}
    assert all(re.fullmatch(r"\d+\.\d+.*", label) for label in sample.labels.values())


def test_process_and_interpreter_have_metrics(metrics: Metrics) -> None:
    names = {family.name for family in metrics.registry.collect()}
    assert {"process_cpu_seconds", "process_resident_memory_bytes", "python_info", "python_gc_collections"} <= names


@pytest.mark.parametrize(("name", "version", "labels"), [("made-up", 0, ("", "")), ("tiny", 77, ("tiny", "1"))])
def test_client_text_never_becomes_a_label(metrics: Metrics, name: str, version: int, labels: tuple[str, str]) -> None:
    metrics.request_answered(call_of(name, version), "NOT_FOUND", "not_served")
    counted = dict(zip(("model", "version"), labels, strict=True))
    assert value(metrics, "requests_total", **counted, method="Generate", status="NOT_FOUND") == 1
    assert value(metrics, "rejections_total", **counted, reason="not_served") == 1
    page = generate_latest(metrics.registry)
    assert b"made-up" not in page
    assert b'"77"' not in page


def test_a_new_version_has_its_own_series_and_those_of_the_old_one_end(metrics: Metrics, catalog: Catalog) -> None:
    fill(metrics, catalog)
    catalog.add(served(version=2, broken=True))
    catalog.remove("tiny", 1)
    metrics.request_answered(call_of("tiny", 2), "OK")
    metrics.request_answered(call_of("tiny", 1), "OK")  # arrived before the swap
    for name in ("model_ready", "queue_rows", "rows_total"):
        assert value(metrics, name, model="tiny", version="1") is None
        assert value(metrics, name, model="tiny", version="2") == 0
    assert value(metrics, "requests_total", model="tiny", version="2", method="Generate", status="OK") == 2


def test_versions_that_could_not_be_loaded_have_a_series(metrics: Metrics, catalog: Catalog) -> None:
    fill(metrics, catalog)
    assert value(metrics, "version_failed", model="tiny", version="7") == 1
    assert value(metrics, "version_loads_total", outcome="ok") == 3
    assert value(metrics, "version_loads_total", outcome="failed") == 2


def test_versions_side_by_side_are_counted_apart(metrics: Metrics, catalog: Catalog) -> None:
    catalog.add(served(version=2))
    for version in (1, 2, 2):
        metrics.request_answered(call_of("tiny", version), "OK")
    for label, count in (("1", 1), ("2", 2)):
        counted = value(metrics, "requests_total", model="tiny", version=label, method="Generate", status="OK")
        assert counted == count


def test_the_series_of_an_unloaded_model_end(metrics: Metrics, catalog: Catalog) -> None:
    fill(metrics, catalog)
    catalog.remove("tiny")
    metrics.watch_versions(list, dict)
    metrics.request_answered(call_of("tiny"), "NOT_FOUND", "not_served")
    assert b"tiny" not in generate_latest(metrics.registry)
    assert value(metrics, "requests_total", model="", version="", method="Generate", status="NOT_FOUND") == 1


def test_names_and_help_texts_follow_the_conventions_of_prometheus(metrics: Metrics, catalog: Catalog) -> None:
    fill(metrics, catalog)
    families = list(metrics.collect())
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    for family in families:
        words = family.name.split("_")
        assert re.fullmatch(r"ganserve(_[a-z]+)+", family.name)
        assert family.documentation.endswith(".")
        assert not set(words) & (ABBREVIATIONS | TYPES)
        assert words[-1] not in {"total", "count", "sum", "bucket"}  # counters get their suffix from the client
        assert family.samples, f"{family.name} is never filled in"
        assert all(re.fullmatch(r"[a-z_]+", label) for sample in family.samples for label in sample.labels)


@pytest.mark.parametrize(
    ("write", "parse"), [(generate_latest, parse_text), (generate_openmetrics, parse_openmetrics)], ids=["text", "open"]
)
def test_both_formats_can_be_parsed(metrics: Metrics, catalog: Catalog, write: Any, parse: Any) -> None:
    fill(metrics, catalog)
    parsed = {family.name for family in parse(write(metrics.registry).decode())}
    assert {family.name for family in metrics.collect()} <= parsed


def test_servers_in_one_process_count_separately(metrics: Metrics, catalog: Catalog) -> None:
    other = Metrics(Catalog(), Gate())
    fill(metrics, catalog)
    assert value(other, "rows_total", model="tiny", version="1") is None
