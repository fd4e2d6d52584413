from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from select import select
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import Collector

from server.gate import Gate
from server.http.app import MAX_PAGES, MAX_SCRAPES, HttpApp
from server.http.endpoint import HttpEndpoint
from tests.server.http.http_calls import connect, read_all, request

PATHS = ["/metrics", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"]
SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"  # as Prometheus does


def test_the_metrics_are_a_page_that_prometheus_can_read(endpoint: HttpEndpoint) -> None:
    reply = request(endpoint.address, "/metrics")
    assert (reply.status, reply.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    families = {family.name: family for family in parse_text(reply.body.decode())}
    (sample,) = families["ganserve_requests"].samples
    assert (sample.labels["model"], sample.value) == ("tiny", 1)


def test_the_format_and_the_compression_are_negotiated(endpoint: HttpEndpoint) -> None:
    reply = request(endpoint.address, "/metrics", headers={"Accept": OPENMETRICS, "Accept-Encoding": "gzip"})
    assert reply.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert reply.headers["content-encoding"] == "gzip"
    parse: Any = parse_openmetrics
    families = {family.name for family in parse(gzip.decompress(reply.body).decode())}
    assert {"ganserve_requests", "ganserve_accepting_requests"} <= families


@pytest.mark.parametrize("version", ["abc", "", "1.x", "9" * 40])
def test_a_made_up_version_of_a_format_gets_a_page(version: str, endpoint: HttpEndpoint) -> None:
    for kind in ("application/openmetrics-text", "text/plain"):
        reply = request(endpoint.address, "/metrics", headers={"Accept": f"{kind};version={version}"})
        assert reply.status == 200
        assert b"ganserve_requests_total{" in reply.body


def test_metrics_can_be_chosen_by_name(endpoint: HttpEndpoint) -> None:
    reply = request(endpoint.address, "/metrics?name[]=ganserve_cores&name%5B%5D=ganserve_requests_total&name[]=%ff")
    samples = {sample.name for family in parse_text(reply.body.decode()) for sample in family.samples}
    assert samples == {"ganserve_cores", "ganserve_requests_total"}


def answers(endpoint: HttpEndpoint) -> dict[str, tuple[int, str]]:
    replies = {path: request(endpoint.address, path) for path in PATHS if path != "/metrics"}
    return {path: (reply.status, reply.body.decode()) for path, reply in replies.items()}


def test_health_is_true_while_starting_serving_stopping_and_draining(
    open_endpoint: Callable[..., HttpEndpoint],
) -> None:
    gate = Gate()
    endpoint = open_endpoint(HttpApp(CollectorRegistry(), gate))
    alive = {"/healthz": (200, "alive\n"), "/v2/health/live": (200, '{"live": true}')}
    not_ready = (503, '{"ready": false}')
    assert answers(endpoint) == {**alive, "/readyz": (503, "starting\n"), "/v2/health/ready": not_ready}
    gate.open()
    assert answers(endpoint) == {**alive, "/readyz": (200, "ready\n"), "/v2/health/ready": (200, '{"ready": true}')}
    gate.retire()
    assert answers(endpoint) == {**alive, "/readyz": (503, "stopping\n"), "/v2/health/ready": not_ready}
    gate.drain()
    assert answers(endpoint) == {**alive, "/readyz": (503, "draining\n"), "/v2/health/ready": not_ready}
    reply = request(endpoint.address, "/v2/health/ready")
    assert reply.headers["content-type"] == "application/json"
    assert json.loads(reply.body) == {"ready": False}


@pytest.mark.parametrize("path", PATHS)
def test_head_has_the_headers_of_get_and_no_body(path: str, endpoint: HttpEndpoint) -> None:
    get, head = request(endpoint.address, path), request(endpoint.address, path, "HEAD")
    assert (head.status, head.headers["content-type"], head.body) == (get.status, get.headers["content-type"], b"")
    assert int(head.headers["content-length"]) > 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
@pytest.mark.parametrize("path", PATHS)
def test_other_methods_are_refused(path: str, method: str, endpoint: HttpEndpoint) -> None:
    reply = request(endpoint.address, path, method, body=b"ignored")
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/", "/metrics/", "/METRICS", "//metrics", "/favicon.ico", "/v2", "/metrics%00", "*"])
def test_other_paths_are_not_found(path: str, endpoint: HttpEndpoint) -> None:
    for method in ("GET", "POST"):
        reply = request(endpoint.address, path, method)
        assert reply.status == 404
        assert all(known in reply.body.decode() for known in PATHS)


class Held(Collector):
    """Metrics that are collected once the test lets them."""

    def __init__(self) -> None:
        self.began = threading.Semaphore(0)
        self.may_end = threading.Event()
        self.collected = 0

    def collect(self) -> Iterator[Metric]:
        self.began.release()
        assert self.may_end.wait(20)
        self.collected += 1
        yield GaugeMetricFamily("held", "One.", 1)


@pytest.fixture
def held(open_endpoint: Callable[..., HttpEndpoint], gate: Gate) -> Iterator[tuple[Held, HttpEndpoint]]:
    """Metrics that are being collected for a first scrape, and their port."""
    held, registry = Held(), CollectorRegistry()
    registry.register(held)
    endpoint = open_endpoint(HttpApp(registry, gate))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(request, endpoint.address, "/metrics")
        try:
            assert held.began.acquire(timeout=20)
            yield held, endpoint
        finally:
            held.may_end.set()
        assert first.result().status == 200


def test_too_many_scrapes_at_once_are_refused_and_health_is_answered(held: tuple[Held, HttpEndpoint]) -> None:
    metrics, endpoint = held
    with ThreadPoolExecutor(MAX_SCRAPES) as pool:
        scrapes = [pool.submit(request, endpoint.address, "/metrics") for _ in range(MAX_SCRAPES - 1)]
        # One scrape is being made, and the others wait: the next one is refused once all of them have arrived.
        for _ in range(2000):
            with connect(endpoint.address, SCRAPE) as connection:
                if connection in select([connection], [], [], 0.01)[0]:
                    refused = connection.recv(65536)
                    break
        assert refused.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 1" in refused
        assert request(endpoint.address, "/readyz").status == 200
        metrics.may_end.set()
        assert {scrape.result().status for scrape in scrapes} <= {200, 503}
    assert request(endpoint.address, "/metrics").status == 200


def test_nothing_is_collected_for_a_client_that_has_left(held: tuple[Held, HttpEndpoint]) -> None:
    metrics, endpoint = held
    # The pages that may be made at once, all but the first of which wait for the thread.
    made = [connect(endpoint.address, SCRAPE) for _ in range(MAX_PAGES - 1)]
    assert request(endpoint.address, "/healthz").status == 200
    left = [connect(endpoint.address, SCRAPE) for _ in range(20)]
    assert request(endpoint.address, "/healthz").status == 200
    for connection in left:
        connection.close()
    assert request(endpoint.address, "/healthz").status == 200
    metrics.may_end.set()
    for connection in made:
        assert b"held 1.0" in read_all(connection)
        connection.close()
    assert request(endpoint.address, "/metrics").status == 200
    assert metrics.collected == MAX_PAGES + 1


def test_a_scrape_with_a_body_that_never_comes_is_answered(endpoint: HttpEndpoint) -> None:
    with connect(endpoint.address, b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n") as connection:
        assert b"ganserve_requests_total" in read_all(connection)
