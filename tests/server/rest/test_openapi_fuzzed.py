"""Generated requests against the OpenAPI document: every answer is one that the document describes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from server.app import Server, start
from server.config import Address, ServerConfig
from server.rest.app import OPERATIONS
from server.rest.openapi import openapi
from tests.server.rest.conftest import unsent_bytes
from tests.server.tiny_bundles import publish_tiny_bundle, publish_tiny_translator

DOCUMENT = openapi(OPERATIONS, "1")
EXAMPLES = 15
PATIENCE_S = 20
OPERATION_IDS = [(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of "tiny" and "tiny-a2b" in a thread, because the client blocks."""
    models = tmp_path_factory.mktemp("fuzzed") / "models"
    publish_tiny_bundle(models)
    publish_tiny_translator(models)
    anywhere = Address("127.0.0.1", 0)
    config = ServerConfig(models, anywhere, http_address=anywhere, metrics_address=None, device="cpu")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(start(config), loop).result()
    yield server
    asyncio.run_coroutine_threadsafe(server.close(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), OPERATION_IDS)
def test_every_answer_is_one_that_the_document_describes(served: Server, method: str, path: str) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    operation = schemathesis.openapi.from_dict(DOCUMENT)[path][method]
    # A schema does not say which texts are labels, which bytes are pictures, and how many numbers a tensor has.
    excluded = [schemathesis.checks.CHECKS.get_one("positive_data_acceptance")]

    @given(case=operation.as_strategy())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Any) -> None:
        if "model" in (case.path_parameters or {}):
            case.path_parameters["model"] = "tiny-a2b" if "translate" in path else "tiny"
        if path.endswith("/ready") and "version" in (case.path_parameters or {}):
            case.path_parameters["version"] = "1"  # others are not ready, which looks like a fault of the server
        case.call_and_validate(base_url=served.rest_url, excluded_checks=excluded)

    check()
    held = (lambda: unsent_bytes(served), lambda: served.core.input_budget.used_bytes, lambda: served.core.gate.inside)
    deadline_s = time.monotonic() + PATIENCE_S  # the client may be faster than the end of the request
    while any(count() for count in held):
        assert time.monotonic() < deadline_s
        time.sleep(0.001)
