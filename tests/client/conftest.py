"""A fake server and a client of it, for every test of the client that needs them."""

from __future__ import annotations

from collections.abc import Iterator

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
