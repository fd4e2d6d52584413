from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from server.rpc.unsent import unsent_bytes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not tell")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection: that of the server, and that of its client."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        client = stack.enter_context(socket.create_connection(listener.getsockname()))
        server = stack.enter_context(listener.accept()[0])
        server.setblocking(False)
        yield server, client


def fill(connection: socket.socket) -> int:
    """Sends until the kernel takes no more; returns the number of bytes."""
    sent = 0
    while True:
        try:
            sent += connection.send(bytes(1 << 16))
        except BlockingIOError:
            return sent


def test_what_the_client_has_not_room_for_is_unsent(ends: tuple[socket.socket, socket.socket]) -> None:
    server, client = ends
    ports = {server.getsockname()[1]}
    assert unsent_bytes(ports) == 0
    left = fill(server)
    assert 0 < unsent_bytes(ports) <= left
    while left:
        left -= len(client.recv(1 << 20))
    assert unsent_bytes(ports) == 0


def test_other_ports_do_not_count(ends: tuple[socket.socket, socket.socket]) -> None:
    server, client = ends
    fill(server)
    assert unsent_bytes({client.getsockname()[1]}) == 0
    assert unsent_bytes(()) == 0


def test_looking_leaves_the_connection_as_it_is(ends: tuple[socket.socket, socket.socket]) -> None:
    server, client = ends
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        unsent_bytes({server.getsockname()[1]})
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    server.send(b"still open")
    assert client.recv(100) == b"still open"
