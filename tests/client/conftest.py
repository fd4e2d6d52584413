"""A fake server and a client of it, for every test of the client that needs them; and an empty folder."""

from __future__ import annotations

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
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path
