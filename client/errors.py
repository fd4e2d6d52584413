"""The client's exceptions.

Each message is one printable line, because text from servers is untrusted and ends up on terminals.
"""
# ruff: noqa: N818  (the names say what happened without a suffix Error)

from __future__ import annotations


class GanClientError(Exception):
    """The base class of all client errors; the message says what to do."""


class ServerUnreachable(GanClientError):
    """No server answers at the address, or it was starting, draining or cancelling requests throughout all retries."""


class UnknownModel(GanClientError):
    """The server does not serve this model or version; the message lists what it serves."""


class InvalidRequest(GanClientError):
    """The request can never succeed; the message names the argument."""


class AccessDenied(GanClientError):
    """The server, or a proxy in front of it, requires a token, or rejects the one sent."""


class ServerBusy(GanClientError):
    """The server's queue is full. Try again later; translations have already waited for about 30 s."""


class DeadlineExceeded(GanClientError):
    """The server did not respond in time."""


class ServerFault(GanClientError):
    """The server failed, or its response violates the contract."""


class UnsupportedByServer(ServerFault):
    """The server does not implement this call: it is older than this client, or not a ganserve server."""


class UnwritableOutput(GanClientError):
    """A file cannot be written at this path or in this format."""


def invalid_response(reason: str) -> ServerFault:
    """The error for a response that violates the contract."""
    return ServerFault(f"the server's response is invalid: {one_line(reason)}; use equal versions of server and client")


def one_line(text: str) -> str:
    """`text` on one line, with control characters, which a terminal would obey, replaced."""
    return "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
