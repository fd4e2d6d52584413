"""Fixtures for the client's tests: a fake server, clients of it, and an empty folder."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from client import GanClient
from tests.client.fake_server import FakeServer


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer().serve() as running:
        yield running


@pytest.fixture
def client(server: FakeServer) -> Iterator[GanClient]:
    with GanClient(server.address, timeout_s=20) as opened:
        yield opened


@pytest.fixture
def wide(server: FakeServer) -> Iterator[GanClient]:
    """A client with three requests in flight."""
    with GanClient(server.address, timeout_s=20, channels=3) as opened:
        yield opened


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortens the pauses between retries, for tests of what follows them."""
    monkeypatch.setattr("client.sdk.channel.RETRY_PAUSE_S", 0.01)


@pytest.fixture
def unused_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path
