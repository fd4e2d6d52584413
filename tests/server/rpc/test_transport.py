"""The address on which the gRPC server listens."""

from __future__ import annotations

import pytest

from server.config import Address, ServerConfig
from server.errors import StartupError
from server.rpc.transport import bind, make_server


async def test_an_address_in_use_is_named_with_the_reason() -> None:
    first, second = make_server(ServerConfig()), make_server(ServerConfig())
    address = Address("127.0.0.1", bind(first, Address("127.0.0.1", 0)))
    await first.start()
    with pytest.raises(StartupError, match=f"^--address: cannot listen on {address} .*in use"):
        bind(second, address)
    await first.stop(None)
    await second.stop(None)
