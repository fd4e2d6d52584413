"""The gRPC server without its methods: its settings, and the address on which it listens.

docs/decisions/0017-grpc-settings.md gives the reason for each setting.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import grpc

from server.config import Address, ServerConfig
from server.descriptors import connections_within
from server.errors import StartupError
from server.fronts.base import Front, MakeFront, Methods

OTHER_CALLS: Final = 1000
MAX_PENDING_CALLS: Final = 20_000
MAX_PENDING_S: Final = 3600  # callers have deadlines of their own
MIN_PING_INTERVAL_MS: Final = 5000  # clients send one every 10 s
KEEPALIVE_INTERVAL_MS: Final = 30_000
KEEPALIVE_TIMEOUT_MS: Final = 20_000
HANDSHAKE_TIMEOUT_MS: Final = 20_000
COMPRESSION_LEVEL: Final = 2  # medium; gRPC chooses an algorithm that the client can read


def make_server(make_front: MakeFront, config: ServerConfig, methods: Methods) -> Front:
    """Returns a gRPC server without ports, for the running event loop."""
    # Only a bound for what `CallLimit` does not count: health, reflection. Its refusals are in no metric.
    max_calls = config.max_concurrent_requests + OTHER_CALLS
    alone = config.http_address is None and config.admin_address is None
    return make_front(methods, list(_options(config)), max_calls, alone=alone)


def _options(config: ServerConfig) -> Iterator[tuple[str, int]]:
    yield "grpc.max_receive_message_length", config.max_message_bytes
    yield "grpc.max_send_message_length", -1
    yield "grpc.so_reuseport", 0  # otherwise a second server would silently share the port
    yield "grpc.max_allowed_incoming_connections", connections_within(config.max_connections)
    yield "grpc.server_handshake_timeout_ms", HANDSHAKE_TIMEOUT_MS
    # A peer that opens and resets calls all the time fills no more than this share of the calls that wait, because
    # the protection counts calls until they are freed.
    yield "grpc.max_concurrent_streams", config.max_concurrent_requests_per_connection
    yield "grpc.http.overload_protection", 1
    # Calls that Python has not picked up. gRPC cancels more, and our refusals need their turn in Python.
    yield "grpc.server.max_pending_requests", MAX_PENDING_CALLS
    yield "grpc.server.max_pending_requests_hard_limit", MAX_PENDING_CALLS
    yield "grpc.server_max_unrequested_time_in_server", MAX_PENDING_S
    # Pings of clients, with and without calls.
    yield "grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_MS
    yield "grpc.keepalive_permit_without_calls", 1
    # Our own, by which the requests of a dead client leave the queue.
    yield "grpc.keepalive_time_ms", KEEPALIVE_INTERVAL_MS
    yield "grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS
    yield "grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS  # the other one is for TCP; 60 s by default
    yield "grpc.http2.max_pings_without_data", 0
    if config.grpc_compression:
        yield "grpc.default_compression_level", COMPRESSION_LEVEL
    for name, seconds in (
        ("grpc.max_connection_idle_ms", config.max_connection_idle_s),
        ("grpc.max_connection_age_ms", config.max_connection_age_s),
        ("grpc.max_connection_age_grace_ms", config.max_connection_age_grace_s),
    ):
        if seconds is not None:
            yield name, max(1, round(seconds * 1000))


def bind(
    server: Front,
    address: Address,
    credentials: grpc.ServerCredentials | None = None,
    flag: str = "--address",
) -> int:
    """Listens, with TLS if there are credentials, and returns the real port; 0 for a Unix socket.

    `flag` names the address in errors.

    Raises:
        StartupError: the address is not available.
    """
    try:
        # gRPC does not say why it cannot listen, and writes to stderr; a socket does.
        if address.path:
            probe_socket_file(address.path)
        else:
            _probe_port(address)
        port = server.add_port(str(address), credentials)
    except (OSError, RuntimeError) as error:
        raise cannot_listen(flag, address, error) from error
    return 0 if address.path else port


def _probe_port(address: Address) -> None:
    """Returns if a socket can listen there.

    Raises:
        OSError: it cannot.
    """
    family, kind, protocol, _, where = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(where)
        probe.listen()


def probe_socket_file(path: str) -> None:
    """Removes the socket file that a crash left behind. gRPC would also replace one that a server is using.

    Raises:
        OSError: no socket can be created there.
    """
    try:
        is_socket = stat.S_ISSOCK(Path(path).lstat().st_mode)
    except FileNotFoundError:
        pass
    else:
        if not is_socket:
            raise FileExistsError(errno.EEXIST, "it exists and is not a socket")
        with socket.socket(socket.AF_UNIX) as other:
            other.setblocking(False)
            if other.connect_ex(path) != errno.ECONNREFUSED:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        Path(path).unlink()
    with socket.socket(socket.AF_UNIX) as probe:
        probe.bind(path)
    Path(path).unlink()


_REMEDIES: Final[dict[int, str]] = {
    errno.EADDRINUSE: "stop the program that listens there, or give another address",
    errno.EADDRNOTAVAIL: "give an address of this machine, or 0.0.0.0 for all of them",
    errno.EACCES: "give a port above 1023 or a writable folder, or run as another user",
    errno.ENOENT: "create the folder of the socket, or give another one",
}


def cannot_listen(flag: str, address: Address, error: Exception) -> StartupError:
    """The error for an address that is not available; `flag` names it."""
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number in _REMEDIES:
        reason, remedy = os.strerror(number), _REMEDIES[number]  # asyncio and gRPC repeat the address in their texts
    else:
        reason, remedy = getattr(error, "strerror", None) or str(error), "give another address"
    return StartupError(f"{flag}: cannot listen on {address} ({reason}); {remedy}")
