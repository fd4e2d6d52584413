"""Speaks to the HTTP port, with well-formed requests and raw bytes."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Mapping
from typing import NamedTuple

from server.config import Address

TIMEOUT_S = 20


class Reply(NamedTuple):
    """An HTTP response."""

    status: int
    headers: Mapping[str, str]  # by names in lower case
    body: bytes


def request(
    address: Address, path: str, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes = b""
) -> Reply:
    """Sends a request, and returns the response."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=TIMEOUT_S)
    return _exchange(connection, path, method, headers or {}, body)


def tls_request(address: Address, path: str, context: ssl.SSLContext) -> Reply:
    """Sends a request over TLS, and returns the response."""
    connection = http.client.HTTPSConnection(address.host, address.port, timeout=TIMEOUT_S, context=context)
    return _exchange(connection, path, "GET", {}, b"")


def connect(address: Address, sent: bytes = b"") -> socket.socket:
    """Connects, and sends bytes."""
    connection = socket.create_connection((address.host, address.port), timeout=TIMEOUT_S)
    connection.sendall(sent)
    return connection


def read_all(connection: socket.socket) -> bytes:
    """Reads until the server closes the connection."""
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


def read_until(connection: socket.socket, marker: bytes) -> bytes:
    """Reads until a text has come, or the server closes the connection."""
    received = b""
    while marker not in received and (chunk := connection.recv(65536)):
        received += chunk
    return received


def is_closed_by_the_server(connection: socket.socket) -> bool:
    """Waits until the server has closed the connection; fails after a while."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def _exchange(
    connection: http.client.HTTPConnection, path: str, method: str, headers: Mapping[str, str], body: bytes
) -> Reply:
    try:
        connection.request(method, path, body or None, dict(headers))
        response = connection.getresponse()
        return Reply(response.status, {name.lower(): text for name, text in response.getheaders()}, response.read())
    finally:
        connection.close()
