"""The client's exceptions, and their mapping from gRPC status codes.

Each message is one printable line, because text from servers is untrusted and ends up on terminals.
"""
# ruff: noqa: N818  (the names say what happened without a suffix Error)

from __future__ import annotations

from typing import Final

import grpc


class GanClientError(Exception):
    """The base class of all client errors; the message says what to do."""


class ServerUnreachable(GanClientError):
    """No server answers at the address, or it was starting or draining throughout all retries."""


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


_TOO_LARGE: Final = "message larger than max"  # part of gRPC's own message, which has the same status as a full queue

# Part of gRPC's message about a failed connection -> remedy.
_UNREACHABLE: Final = (
    (
        "certificate has expired",
        "its certificate has expired: renew it, or set the clock of this machine",
    ),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "its certificate is not from a trusted authority: set --tls-roots or TlsOptions.root_certificates",
    ),
    (
        "Hostname Verification Check failed",
        "its certificate is for another name: set --tls-server-name or TlsOptions.server_name",
    ),
    ("WRONG_VERSION_NUMBER", "it does not use TLS: turn TLS off, or name another address"),
    (
        "Socket closed",
        "it closed the connection: it may be stopping, or require TLS (--tls, TlsOptions) or a client certificate",
    ),
)

_BY_STATUS: Final[dict[grpc.StatusCode, type[GanClientError]]] = {
    grpc.StatusCode.UNAVAILABLE: ServerUnreachable,
    grpc.StatusCode.NOT_FOUND: UnknownModel,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ServerBusy,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.UNAUTHENTICATED: AccessDenied,
    grpc.StatusCode.PERMISSION_DENIED: AccessDenied,
    grpc.StatusCode.UNIMPLEMENTED: UnsupportedByServer,
}


def from_rpc_error(error: grpc.RpcError, address: str, timeout_s: float) -> GanClientError:
    """The error for a failed call to the server at `address` with a deadline of `timeout_s` seconds."""
    status = error.code()
    text = one_line(error.details() or status.name)
    kind = _BY_STATUS.get(status, ServerFault)
    if kind is ServerBusy and _TOO_LARGE in text:
        return InvalidRequest(
            f"the request is larger than the server at {address} accepts ({text}); send fewer or smaller rows"
        )
    if kind is ServerUnreachable:
        remedy = next((hint for sign, hint in _UNREACHABLE if sign in text), "start one, or name another address")
        text = f"no server is ready at {address} ({text}); {remedy}"
    elif kind is DeadlineExceeded:
        text = f"no response from {address} within {timeout_s:g} s ({text}); raise the timeout, or request fewer images"
    elif kind is ServerBusy:
        text = f"{text} (the server at {address} is busy; try again later)"
    elif kind is AccessDenied:
        text = f"{address} denies access ({text}); give a valid token"
    elif kind is UnsupportedByServer:
        text = f"{address} is not a ganserve server, or is an older one ({text}); name another address"
    elif kind is ServerFault:
        text = f"the server at {address} failed: {status.name}: {text}"
    return kind(text)


def invalid_response(reason: str) -> ServerFault:
    """The error for a response that violates the contract."""
    return ServerFault(f"the server's response is invalid: {one_line(reason)}; use equal versions of server and client")


def one_line(text: str) -> str:
    """`text` on one line, with control characters, which a terminal would obey, replaced."""
    return "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
