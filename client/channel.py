"""Opens the gRPC channel: the address, message sizes and retries. Knows nothing of models or images."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Final

import grpc

from client.errors import InvalidRequest

DEFAULT_ADDRESS = "127.0.0.1:50051"

_SERVICE = "ganserve.v1.Generator"
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252})")
_DNS_PREFIX = "dns:///"

# Every call is a pure function of its request, so repeating one is safe. The pauses add up to about 1.5 s.
_SERVICE_CONFIG: Final = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{"service": _SERVICE}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "2s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)

_OPTIONS: Final[list[tuple[str, str | int]]] = [
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.enable_retries", 1),
    # gRPC never repeats a request larger than this buffer; its default of 256 KiB is less than a chunk of latents.
    ("grpc.per_rpc_retry_buffer_size", 64 << 20),
    # Images are larger than gRPC's default limit of 4 MiB; answers are bounded by what is asked for.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # So that a retry reaches a server that has come back, instead of gRPC's pause of 1 s after a failed connection.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
]


def open_channel(address: str) -> grpc.Channel:
    """A channel to `address`; connects at the first call.

    Raises:
        InvalidRequest: `address` is not one.
    """
    options = list(_OPTIONS)
    if _is_loopback(check_address(address)):
        options.append(("grpc.enable_http_proxy", 0))  # no proxy reaches our own machine, whatever http_proxy says
    return grpc.insecure_channel(address, options=options)


def check_address(address: str) -> str:
    """Returns `address` if it is HOST:PORT, [IPV6]:PORT, dns:///HOST:PORT or unix:PATH.

    Raises:
        InvalidRequest: it is none of these.
    """
    if address.startswith("unix:") and len(address) > len("unix:") and address.isprintable():
        return address
    host, separator, port = address.removeprefix(_DNS_PREFIX).rpartition(":")
    if separator and _is_host(host) and port.isascii() and port.isdecimal() and 1 <= int(port[:6]) <= 65535:
        return address
    raise InvalidRequest(
        f"address {address!r}: give HOST:PORT with a port of 1 .. 65535, for example {DEFAULT_ADDRESS} or [::1]:50051"
    )


def _is_host(host: str) -> bool:
    if host.startswith("[") and host.endswith("]"):
        return _ip_address(host[1:-1]) is not None
    return _HOST.fullmatch(host) is not None


def _is_loopback(address: str) -> bool:
    host = address.removeprefix(_DNS_PREFIX).rpartition(":")[0].strip("[]")
    ip = _ip_address(host)
    return host == "localhost" or (ip is not None and ip.is_loopback)


def _ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
