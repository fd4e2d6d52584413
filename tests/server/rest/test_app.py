"""Tests for server.rest.app: what it answers without the core."""

from __future__ import annotations

import json

import pytest

from tests.server.rest.conftest import Ask, error_of


@pytest.mark.parametrize(
    ("path", "body"),
    [("/healthz", b"alive\n"), ("/readyz", b"ready\n"), ("/v2/health/live", b'{"live": true}')],
)
async def test_health_is_as_on_the_port_for_metrics(ask: Ask, path: str, body: bytes) -> None:
    reply = await ask(path)
    assert (reply.status, reply.body) == (200, body)


@pytest.mark.parametrize("path", ["/nothing", "/v1/models/", "/metrics", "/v1/models/a/b/image.png", "//"])
async def test_an_unknown_path_is_not_found(ask: Ask, path: str) -> None:
    reply = await ask(path)
    assert reply.status == 404
    assert "/docs" in error_of(reply)


@pytest.mark.parametrize(
    ("path", "method", "allowed"), [("/v1/models", "DELETE", "GET"), ("/v2/models/tiny/infer", "GET", "POST")]
)
async def test_another_method_is_told_which_to_use(ask: Ask, path: str, method: str, allowed: str) -> None:
    reply = await ask(path, method=method)
    assert reply.status == 405
    assert allowed in reply.headers["allow"]
    assert f"use {reply.headers['allow']}" in error_of(reply)


async def test_the_document_is_served(ask: Ask) -> None:
    document = json.loads((await ask("/openapi.json")).body)
    assert document["openapi"].startswith("3.1")
    assert "/v1/models/{model}/grid.png" in document["paths"]


async def test_pages_forbid_scripts(ask: Ask) -> None:
    for path in ("/", "/docs"):
        assert "default-src 'none'" in (await ask(path)).headers["content-security-policy"]
