from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from server.config import Address
from server.gate import Gate
from server.http.app import HttpApp
from server.http.endpoint import HttpEndpoint
from server.metrics import Metrics
from server.models.catalog import Catalog
from tests.server.served_models import call_of, served

Open = Callable[..., HttpEndpoint]


@pytest.fixture
def gate() -> Gate:
    gate = Gate()
    gate.open()
    return gate


@pytest.fixture
def metrics(gate: Gate) -> Metrics:
    """Of a model that was asked once."""
    catalog = Catalog()
    catalog.add(served())
    metrics = Metrics(catalog, gate)
    metrics.request_answered(call_of("tiny"), "OK")
    return metrics


@pytest.fixture
def open_endpoint(metrics: Metrics, gate: Gate) -> Iterator[Open]:
    """Opens HTTP ports; closes them at the end."""
    opened: list[HttpEndpoint] = []

    def open_one(app: Any = None, host: str = "127.0.0.1", **settings: Any) -> HttpEndpoint:
        app = app or HttpApp(metrics.registry, gate)
        opened.append(HttpEndpoint(app, Address(host, 0), **settings))
        return opened[-1]

    yield open_one
    for endpoint in opened:
        endpoint.close()


@pytest.fixture
def endpoint(open_endpoint: Open) -> HttpEndpoint:
    return open_endpoint()
