"""Keeps the port for gRPC while the models load: bound, so that it is ours, but not open, so that connecting fails."""

from __future__ import annotations

import socket
from itertools import combinations

from server.config import Address, ServerConfig
from server.errors import StartupError
from server.rpc.transport import cannot_listen, probe_socket_file


def refuse_shared_ports(config: ServerConfig) -> None:
    """Finds two flags with the same address, which would only fail once the models are loaded.

    Raises:
        StartupError: two flags give the same address.
    """
    flags = {
        "--address": config.address,
        "--admin-address": config.admin_address,
        "--http-address": config.http_address,
        "--metrics-address": config.metrics_address,
    }
    for (flag, address), (other, same) in combinations(flags.items(), 2):
        if address is not None and address == same and (address.port or address.path):
            raise StartupError(f"{other}: {address} is the address of {flag} too; give another one")


class Reservation:
    """Holds a port from construction to `close`. Connections to it are refused until gRPC listens on it too.

    A server that listens there already is found at once. Of two servers that reserve the same port while neither
    listens, the second one fails when it listens: `SO_REUSEADDR`, without which a restarted server would have to wait
    until the kernel forgets its old connections, lets both reserve it.

    The path of a Unix socket is only checked: a file there would look like an open port.

    Args:
        address: port 0 picks a free one.
        flag: the flag that gave it, for messages.

    Attributes:
        address: the address with the real port.

    Raises:
        StartupError: the address is not available.
    """

    def __init__(self, address: Address, flag: str = "--address") -> None:
        self.address = address
        self._socket: socket.socket | None = None
        try:
            if address.path:
                probe_socket_file(address.path)
                return
            found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
            family, kind, protocol, _, where = found[0]
            self._socket = socket.socket(family, kind, protocol)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(where)
        except OSError as error:
            self.close()
            raise cannot_listen(flag, address, error) from error
        self.address = Address(address.host, self._socket.getsockname()[1])

    def close(self) -> None:
        """Gives the port up, unless gRPC listens on it. Safe to call twice."""
        if self._socket is not None:
            self._socket.close()
