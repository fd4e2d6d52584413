"""Names the cause of a failed request and its remedy: gRPC's statuses alone do not tell them apart."""

from __future__ import annotations

import os
import re
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import grpc

from client.errors import (
    AccessDenied,
    DeadlineExceeded,
    GanClientError,
    InvalidRequest,
    ServerBusy,
    ServerFault,
    ServerUnreachable,
    UnknownModel,
    UnsupportedByServer,
    VersionNotLoaded,
    one_line,
)
from client.sdk.addresses import Target
from client.sdk.channel import Endpoint

_TOO_LARGE: Final = "message larger than max"  # part of gRPC's own message, which has the same status as a full queue
_OWN_DEADLINE: Final = "Deadline Exceeded"  # gRPC's own text, when the time is up here; servers say more
_PROXY_VARIABLES: Final = ("grpc_proxy", "https_proxy", "http_proxy")  # in gRPC's order

_HTTP_STATUS: Final = re.compile(r"Received http2 header with status: (\d+)")
_CONNECTING: Final = re.compile(
    r"(?:failed to connect to all addresses|connections to all backends failing); last error: (?:[A-Z_]+: )?"
)

_NO_HTTP2: Final = "it has no HTTP/2, which gRPC requires: name the gRPC port, or turn HTTP/2 on there"
_CLOSED: Final = (
    "it closed the connection: it may be stopping, or require TLS (--tls, TlsOptions) or a client certificate"
)
_NO_ADDRESS: Final = "the name has no address: check its spelling, and the DNS of this machine"
_DEAD: Final = "the connection is dead, and so were new ones: check the network to the server"
_SILENT: Final = "packets to it get no answer: check the address, the network and its firewall"

# Part of gRPC's message about a failed connection -> remedy; the first that matches.
_UNREACHABLE: Final = {
    "certificate has expired": "its certificate has expired: renew it, or set the clock of this machine",
    "CERTIFICATE_VERIFY_FAILED": (
        "its certificate is not from a trusted authority: set --tls-roots or TlsOptions.root_certificates"
    ),
    "Hostname Verification Check failed": (
        "its certificate is for another name: set --tls-server-name or TlsOptions.server_name"
    ),
    "WRONG_VERSION_NUMBER": "it does not use TLS: turn TLS off, or name another address",
    "NO_APPLICATION_PROTOCOL": _NO_HTTP2,
    "ALPN": _NO_HTTP2,
    "http1.x server": (
        "it speaks HTTP/1, not gRPC: name the gRPC port, not that of the metrics or of a web server, or turn TLS on"
        " (--tls, TlsOptions) if the port requires it"
    ),
    "got frame type 80": "it speaks HTTP/1, not gRPC: name the gRPC port, not that of the metrics or of a web server",
    "Expected SETTINGS frame": "it does not speak gRPC: another program has this port, so name the server's port",
    "before receiving SETTINGS frame": (
        "it accepts connections but says nothing: it hangs, or is no gRPC server; name the server's port"
    ),
    "Socket closed": _CLOSED,
    "Connection reset by peer": _CLOSED,
    "Connection refused": "nothing listens there: start the server, or name another address",
    "HTTP proxy returned response code": "the HTTP proxy refuses to connect to it",
    "No such file or directory": "there is no such socket: start the server with this --address, or name another",
    "Permission denied": "this user may not open the socket: change its permissions, or run as another user",
    "errors resolving": _NO_ADDRESS,
    "DNS resolution failed": _NO_ADDRESS,
    "backend unhealthy": "their health is NOT_SERVING: they are starting or draining; wait, or name another address",
    "ping timeout": _DEAD,
    "keepalive": _DEAD,
    "handshaker shutdown": _SILENT,  # the attempt to connect took too long
    "imed out": _SILENT,  # of connect(), in several spellings
    "o route to host": _SILENT,
    "etwork is unreachable": "this machine has no network to it: check the address and the network",
}

_BY_STATUS: Final[dict[grpc.StatusCode, type[GanClientError]]] = {
    grpc.StatusCode.UNAVAILABLE: ServerUnreachable,
    grpc.StatusCode.CANCELLED: ServerUnreachable,
    grpc.StatusCode.NOT_FOUND: UnknownModel,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.FAILED_PRECONDITION: VersionNotLoaded,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ServerBusy,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.UNAUTHENTICATED: AccessDenied,
    grpc.StatusCode.PERMISSION_DENIED: AccessDenied,
    grpc.StatusCode.UNIMPLEMENTED: UnsupportedByServer,
}


class _Refusal(NamedTuple):
    """What an HTTP status without a gRPC status means; only proxies and web servers answer so."""

    kind: type[GanClientError]
    reason: str
    remedy: str


_NO_GRPC: Final = "name the address of the gRPC server, or let the proxy pass gRPC on to it"
_BY_HTTP_STATUS: Final[dict[int, _Refusal]] = {
    400: _Refusal(
        UnsupportedByServer,
        "refuses the request, perhaps because it lacks a client certificate",
        f"set --tls-key and --tls-certificate (TlsOptions), or {_NO_GRPC}",
    ),
    401: _Refusal(AccessDenied, "requires a token", "give a valid one"),
    403: _Refusal(AccessDenied, "denies access", "give a valid token, or a client certificate"),
    404: _Refusal(UnsupportedByServer, "does not know this service", _NO_GRPC),
    407: _Refusal(AccessDenied, "requires a password for the proxy", "put it into the proxy's URL"),
    408: _Refusal(DeadlineExceeded, "waited too long for the request", "raise its time limit, or send fewer rows"),
    413: _Refusal(
        InvalidRequest,
        "refuses requests of this size",
        "send fewer or smaller rows, or raise its limit (client_max_body_size of nginx)",
    ),
    429: _Refusal(ServerBusy, "limits the rate of requests", "try again later, or raise its limit"),
    431: _Refusal(InvalidRequest, "refuses headers of this size", "give a shorter token"),
    502: _Refusal(ServerUnreachable, "reaches no gRPC server", "start one, or check where the proxy connects to"),
    503: _Refusal(ServerUnreachable, "has no server that is ready", "start one, or wait until one is ready"),
    504: _Refusal(
        DeadlineExceeded, "got no response in its own time limit", "raise that limit, or request fewer images"
    ),
}


def failure_of(error: grpc.RpcError, endpoint: Endpoint, *, is_connected: bool) -> GanClientError:
    """The error for a failed request.

    Args:
        error: What gRPC raised.
        endpoint: Where the request was sent, and with which deadline.
        is_connected: Whether the channel is connected now; tells why no response came in time.
    """
    failure = _cause(error, endpoint, is_connected=is_connected)
    is_of_proxy = _HTTP_STATUS.search(error.details() or "") is not None
    if is_of_proxy or isinstance(failure, ServerUnreachable | UnsupportedByServer):
        return type(failure)(f"{failure}{_hints(endpoint.target, failure)}")
    return failure


def local_failure(status: grpc.StatusCode, text: str, timeout_s: float | None) -> GanClientError:
    """The error for a request that the models of this process refuse.

    Args:
        status: The status that a server would send.
        text: Its message.
        timeout_s: The deadline of the request, in seconds; None without one.
    """
    kind, text = _BY_STATUS.get(status, ServerFault), one_line(text)
    if kind is DeadlineExceeded and timeout_s is not None:
        text = f"no images within {timeout_s:g} s ({text}); raise the timeout, or request fewer images"
    elif kind is ServerBusy and "try again" not in text:
        text = f"{text}; try again later"
    return kind(text)


def _cause(error: grpc.RpcError, endpoint: Endpoint, *, is_connected: bool) -> GanClientError:
    address, status = endpoint.target.text, error.code()
    text = _readable(error.details() or status.name)
    kind = _BY_STATUS.get(status, ServerFault)
    if http := _HTTP_STATUS.search(text):
        return _from_http_status(int(http[1]), address)
    if kind is ServerFault and "END_STREAM" in text:  # a response that is complete, but carries no gRPC status
        return UnsupportedByServer(f"{address} answers as a web server ({text}); {_NO_GRPC}")
    if kind is ServerBusy and _TOO_LARGE in text:
        return InvalidRequest(
            f"the request is larger than the server at {address} accepts ({text}); send fewer or smaller rows"
        )
    if status is grpc.StatusCode.CANCELLED:
        text = (
            f"{address} cancelled the request, and every retry ({text}); the server may be overloaded or stopping, or a"
            " proxy may have lost it: try again later"
        )
    elif kind is ServerUnreachable:
        remedy = next(
            (hint for sign, hint in _UNREACHABLE.items() if sign in text), "start one, or name another address"
        )
        text = f"no server is ready at {address} ({text}); {remedy}"
    elif kind is DeadlineExceeded:
        return _late(text, endpoint, is_connected=is_connected)
    elif kind is ServerBusy:
        text = f"the server at {address} is busy: {text}" + ("" if "try again" in text else "; try again later")
    elif kind is AccessDenied:
        has_remedy = any(flag in text for flag in ("--model-control", "--admin-address", "--admin-token-file"))
        remedy = "" if has_remedy else "; give a valid token (--token-file, token=)"
        text = f"{address} denies access ({text}){remedy}"
    elif kind is UnsupportedByServer:
        text = f"{address} is not a ganserve server, or is an older one ({text}); name another address"
    elif kind is ServerFault:
        text = f"the server at {address} failed: {status.name}: {text}"
    return kind(text)


def _from_http_status(code: int, address: str) -> GanClientError:
    if 300 <= code < 400:
        refusal = _Refusal(UnsupportedByServer, "redirects as a web server does, for example to a login", _NO_GRPC)
    elif code >= 500:
        refusal = _Refusal(ServerFault, "failed", "look into its log")
    else:
        refusal = _Refusal(UnsupportedByServer, "answers as a web server", _NO_GRPC)
    refusal = _BY_HTTP_STATUS.get(code, refusal)
    return refusal.kind(f"a proxy or web server at {address} {refusal.reason} (HTTP {code}); {refusal.remedy}")


def _late(text: str, endpoint: Endpoint, *, is_connected: bool) -> GanClientError:
    """The error for a deadline; the time limit is that of the caller unless the server reports its own."""
    address, timeout_s = endpoint.target.text, endpoint.timeout_s
    late = f"no response from {address} within {timeout_s:g} s"
    if text != _OWN_DEADLINE:
        return DeadlineExceeded(f"{late} ({text}); raise the timeout, or request fewer images")
    if not is_connected:
        return ServerUnreachable(
            f"no connection to {address} within {timeout_s:g} s; nothing answers there: check the address, the network"
            " and its firewall, and whether the server hangs"
        )
    if timeout_s > endpoint.notices_after_s:
        return DeadlineExceeded(
            f"{late}; the connection is alive, so the server is still computing: raise the timeout, or request fewer"
            " images"
        )
    return DeadlineExceeded(
        f"{late}; the server is still computing: raise the timeout, or request fewer images; or the connection is dead,"
        f" which calls notice after {endpoint.notices_after_s:g} s"
    )


def _hints(target: Target, failure: GanClientError) -> str:
    """Settings of this machine that send requests to another place than the address says."""
    hints = ""
    host = target.text.removeprefix("dns:///").rpartition(":")[0]
    if host == "localhost" and ("[::1]" in str(failure) or isinstance(failure, UnsupportedByServer)):
        port = target.text.rpartition(":")[2]
        hints += f"; localhost is [::1] first: for a server that listens on IPv4, give 127.0.0.1:{port}"
    if target.uses_proxy:
        variable = next((name for name in _PROXY_VARIABLES if os.environ.get(name)), None)
        if variable is not None:
            hints += (
                f"; {variable} is set, so gRPC connects through the proxy {_host_of(os.environ[variable])} unless"
                " no_proxy names the server"
            )
    return hints


def _host_of(url: str) -> str:
    """HOST:PORT of a URL, without a password in it."""
    return one_line(urlsplit(url if "://" in url else f"//{url}").netloc.rpartition("@")[2])


def _readable(text: str) -> str:
    """GRPC's text on one line, without its wrapping, and with IPv6 addresses as they are written."""
    return one_line(_CONNECTING.sub("", text)).replace("%5B", "[").replace("%5D", "]")
