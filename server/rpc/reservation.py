"""Keeps the port for gRPC while the models load: bound, so that it is ours, but not open, so that nobody connects."""

from __future__ import annotations

import socket

from server.config import Address
from server.rpc.transport import cannot_listen


class Reservation:
    """Holds a port from construction to `close`. Connections to it are refused until gRPC listens on it too.

    A server that listens there already is found at once. Of two servers that reserve the same port while neither
    listens, the second one fails when it listens: `SO_REUSEADDR`, without which a restarted server would have to wait
    until the kernel forgets its old connections, lets both reserve it.

    Args:
        address: port 0 picks a free one.
        flag: the flag that gave it, for messages.

    Attributes:
        address: the address with the real port.

    Raises:
        StartupError: the address is not available.
    """

    def __init__(self, address: Address, flag: str = "--address") -> None:
        try:
            family, kind, protocol, _, where = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[
                0
            ]
            self._socket = socket.socket(family, kind, protocol)
        except OSError as error:
            raise cannot_listen(flag, address, error) from error
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(where)
        except OSError as error:
            self._socket.close()
            raise cannot_listen(flag, address, error) from error
        self.address = Address(address.host, self._socket.getsockname()[1])

    def close(self) -> None:
        """Gives the port up, unless gRPC listens on it. Safe to call twice."""
        self._socket.close()
