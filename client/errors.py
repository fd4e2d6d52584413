"""Owner of the client's error tree, and the one place that turns gRPC statuses into it. Knows no command line.

Messages are one printable line each: server texts are untrusted, and end up on terminals.
"""
# ruff: noqa: N818  (the names say what happened; a suffix Error on each would say nothing more)

from __future__ import annotations

from typing import Final

import grpc


class GanClientError(Exception):
    """Anything that keeps a call from giving its images; the message says what to do."""


class ServerUnreachable(GanClientError):
    """No server answers at the address, or it is starting or draining, and stayed so through the retries."""


class UnknownModel(GanClientError):
    """The server does not serve this model or version; the message lists those that it serves."""


class InvalidRequest(GanClientError):
    """The request can never succeed; the message names the argument."""


class AccessDenied(GanClientError):
    """The server, or what stands before it, wants a token or another one."""


class ServerBusy(GanClientError):
    """The server's queue is full, and stayed so through the pauses of a translation; try again later."""


class DeadlineExceeded(GanClientError):
    """The answer did not come in time."""


class ServerFault(GanClientError):
    """The server failed, or its answer is not what the contract says."""


class UnsupportedByServer(ServerFault):
    """The server does not know this call: it is older than this client, or no ganserve server."""


class UnwritableOutput(GanClientError):
    """An image file cannot be written where, or as, it was asked for."""


_TOO_LARGE: Final = "message larger than max"  # in gRPC's own text, which has the status of a full queue

# What gRPC says of a connection that fails -> the remedy.
_UNREACHABLE: Final = (
    (
        "CERTIFICATE_VERIFY_FAILED",
        "it shows a certificate of no trusted authority: name its own with --tls-roots, TlsOptions.root_certificates",
    ),
    (
        "Hostname Verification Check failed",
        "its certificate is for another name: give that with --tls-server-name, TlsOptions.server_name",
    ),
    ("WRONG_VERSION_NUMBER", "it speaks no TLS: turn TLS off, or name another address"),
    ("Socket closed", "it hangs up: it may be stopping, or want TLS (--tls, TlsOptions) or a client's certificate"),
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
    """The client's error for a failed call to the server at `address` with a deadline of `timeout_s` seconds."""
    status = error.code()
    text = one_line(error.details() or status.name)
    kind = _BY_STATUS.get(status, ServerFault)
    if kind is ServerBusy and _TOO_LARGE in text:
        return InvalidRequest(
            f"the request is larger than the server at {address} receives ({text}); send fewer or smaller rows"
        )
    if kind is ServerUnreachable:
        remedy = next((hint for sign, hint in _UNREACHABLE if sign in text), "start one, or name another address")
        text = f"no server is ready at {address} ({text}); {remedy}"
    elif kind is DeadlineExceeded:
        text = f"no answer from {address} within {timeout_s:g} s ({text}); allow more time, or ask for fewer images"
    elif kind is ServerBusy:
        text = f"{text} (the server at {address} is busy; try again after a pause)"
    elif kind is AccessDenied:
        text = f"{address} denies access ({text}); give a token that it accepts"
    elif kind is UnsupportedByServer:
        text = f"what listens at {address} is not a ganserve server, or an older one ({text}); name another address"
    elif kind is ServerFault:
        text = f"the server at {address} failed: {status.name}: {text}"
    return kind(text)


def wrong_answer(reason: str) -> ServerFault:
    """The error for an answer that is not what the contract says."""
    return ServerFault(f"the server's answer is wrong: {one_line(reason)}; is its version the client's?")


def one_line(text: str) -> str:
    """`text` on one line, with every character that a terminal might obey replaced."""
    return "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
