"""The gRPC server without its methods: its settings, and the address on which it listens."""

from __future__ import annotations

import socket

import grpc

from server.config import Address, ServerConfig
from server.errors import StartupError


def make_server(config: ServerConfig) -> grpc.aio.Server:
    """Returns a gRPC server without methods or ports, for the running event loop."""
    return grpc.aio.server(
        maximum_concurrent_rpcs=config.max_concurrent_requests,
        options=[
            ("grpc.max_receive_message_length", config.max_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # otherwise a second server would silently share the port
        ],
    )


def bind(
    server: grpc.aio.Server,
    address: Address,
    credentials: grpc.ServerCredentials | None = None,
    flag: str = "--address",
) -> int:
    """Listens, with TLS if there are credentials, and returns the real port. `flag` names the address in errors.

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
        if credentials is not None:
            return server.add_secure_port(str(address), credentials)
        return server.add_insecure_port(str(address))
    except (OSError, RuntimeError) as error:
        raise cannot_listen(flag, address, error) from error


def cannot_listen(flag: str, address: Address, error: Exception) -> StartupError:
    """The error for an address that is not available; `flag` names it."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return StartupError(f"{flag}: cannot listen on {address} ({reason}); free it, or give another address")
