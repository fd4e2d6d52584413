"""The gRPC server without its methods: its settings, and the address on which it listens."""

from __future__ import annotations

import socket
from typing import Final

import grpc

from server.config import Address, ServerConfig
from server.errors import StartupError

OTHER_CALLS: Final = 1000
MAX_PENDING_CALLS: Final = 20_000
MAX_PENDING_S: Final = 3600  # callers have deadlines of their own


def make_server(config: ServerConfig) -> grpc.aio.Server:
    """Returns a gRPC server without methods or ports, for the running event loop."""
    return grpc.aio.server(
        # Only a bound for what `CallLimit` does not count: health, reflection. Its refusals are in no metric.
        maximum_concurrent_rpcs=config.max_concurrent_requests + OTHER_CALLS,
        options=[
            ("grpc.max_concurrent_streams", 1000),
            # Calls that Python has not picked up. gRPC cancels more, and our refusals need their turn in Python.
            ("grpc.server.max_pending_requests", MAX_PENDING_CALLS),
            ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING_CALLS),
            ("grpc.server_max_unrequested_time_in_server", MAX_PENDING_S),
            ("grpc.max_receive_message_length", config.max_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # otherwise a second server would silently share the port
        ],
    )


def bind(server: grpc.aio.Server, address: Address) -> int:
    """Listens, and returns the real port.

    Raises:
        StartupError: the address is not available.
    """
    try:
        # gRPC does not say why it cannot listen, and writes to stderr; a socket does.
        family, kind, protocol, _, where = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            probe.listen()
        return server.add_insecure_port(str(address))
    except (OSError, RuntimeError) as error:
        raise cannot_listen("--address", address, error) from error


def cannot_listen(flag: str, address: Address, error: Exception) -> StartupError:
    """The error for an address that is not available; `flag` names it."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return StartupError(f"{flag}: cannot listen on {address} ({reason}); free it, or give another address")
