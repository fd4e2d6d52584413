from __future__ import annotations

import asyncio
from typing import Any

from uvicorn import Config
from uvicorn.server import ServerState

from server.http.protocol import OneRequestProtocol


async def answer(scope: object, receive: object, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": [(b"connection", b"close")]})
    await send({"type": "http.response.body", "body": b""})


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_aborted = False

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.is_aborted

    def close(self) -> None:
        self.is_aborted = True

    def abort(self) -> None:
        self.is_aborted = True


def connected() -> tuple[OneRequestProtocol, Transport]:
    config = Config(answer, http=OneRequestProtocol, ws="none", lifespan="off", log_config=None, access_log=False)
    protocol, transport = OneRequestProtocol(config=config, server_state=ServerState(), app_state={}), Transport()
    protocol.connection_made(transport)
    return protocol, transport


async def test_a_request_has_arrived_with_the_end_of_its_head() -> None:
    protocol, transport = connected()
    protocol.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n")
    assert not protocol.request_arrived.is_set()
    protocol.data_received(b"\r\n")
    assert protocol.request_arrived.is_set()
    assert not protocol.closed.is_set()
    await asyncio.gather(*protocol.tasks)
    assert transport.written.startswith(b"HTTP/1.1 204")


async def test_a_lost_connection_waits_for_nothing() -> None:
    protocol, _ = connected()
    protocol.connection_lost(ConnectionResetError())
    assert protocol.request_arrived.is_set()
    assert protocol.closed.is_set()


async def test_a_connection_can_be_aborted_before_and_after_it_is_made() -> None:
    protocol, transport = connected()
    protocol.abort()
    assert transport.is_aborted
    unconnected = OneRequestProtocol(config=protocol.config, server_state=ServerState(), app_state={})
    unconnected.abort()
