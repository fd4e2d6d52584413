"""Validates server addresses and turns them into gRPC target names."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from client.errors import InvalidRequest

DEFAULT_ADDRESS: Final = "127.0.0.1:50051"

Addresses: TypeAlias = str | Sequence[str]

_MAX_ADDRESSES: Final = 256
_HOST: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252})")
_DNS: Final = "dns:///"
_UNIX: Final = "unix:"
_MAX_SOCKET_PATH_BYTES: Final = 107  # of Linux
_EXAMPLES: Final = f"for example {DEFAULT_ADDRESS} or [::1]:50051, or unix:PATH"


@dataclass(frozen=True)
class Target:
    """Where to connect to.

    Attributes:
        text: The address, for messages.
        grpc_name: The target name for gRPC.
        is_balanced: Whether requests are balanced over all servers behind it.
        is_local: Whether all traffic stays on this machine.
        is_list: Whether it is several addresses, which have no common host name.
    """

    text: str
    grpc_name: str
    is_balanced: bool = False
    is_local: bool = False
    is_list: bool = False

    @property
    def uses_proxy(self) -> bool:
        """Whether gRPC may connect through http_proxy: no proxy can reach this machine, or accepts a list."""
        return not (self.is_local or self.is_list)


def target_of(addresses: Addresses) -> Target:
    """The target of one address, HOST:PORT, [IPV6]:PORT, dns:///HOST:PORT or unix:PATH, or of several IP:PORT.

    Args:
        addresses: One address, a list, or several separated by commas.

    Raises:
        InvalidRequest: An address is malformed, or gRPC cannot connect to all of them together.
    """
    several = addresses.split(",") if isinstance(addresses, str) else list(addresses)
    if len(several) > _MAX_ADDRESSES:
        raise InvalidRequest(f"address: give at most {_MAX_ADDRESSES}, not {len(several)}; or one DNS name for all")
    places = [_place(address) for address in dict.fromkeys(address.strip(" ") for address in several)]
    if not places:
        raise InvalidRequest(f"address: is missing; give HOST:PORT, {_EXAMPLES}")
    is_local = all(place.is_local for place in places)
    if len(places) == 1:
        text = places[0].text
        return Target(text, text, is_balanced=text.startswith(_DNS), is_local=is_local)
    sockets: list[str] = []
    families: set[int] = set()
    for place in places:  # gRPC takes one name, or a list of IP addresses of one family
        if place.ip is None or place.text.startswith(_DNS):
            raise InvalidRequest(
                f"address {place.text!r}: among several, each must be IP:PORT; give IP addresses, or one DNS name"
                f" for all servers, as {_DNS}HOST:PORT"
            )
        families.add(place.ip.version)
        sockets.append(f"[{place.ip}]:{place.port}" if place.ip.version == 6 else f"{place.ip}:{place.port}")
    if len(families) > 1:
        raise InvalidRequest("address: some are IPv4 and some IPv6, which gRPC does not mix; give one kind")
    return Target(
        text=",".join(place.text for place in places),
        grpc_name=f"ipv{families.pop()}:{','.join(sockets)}",
        is_balanced=True,
        is_local=is_local,
        is_list=True,
    )


class _Place(NamedTuple):
    """One valid address; `ip` is None for a host name and for unix:PATH."""

    text: str
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address | None
    port: str
    is_local: bool


def _place(address: str) -> _Place:
    if address.startswith(_UNIX) and len(address) > len(_UNIX) and address.isprintable():
        return _socket_file(address)
    host, _, port = address.removeprefix(_DNS).rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    try:
        ip = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host[1:-1] if is_bracketed else host)
    except ValueError:
        ip = None
    is_host = ip is not None if is_bracketed else _HOST.fullmatch(host) is not None
    if not (is_host and port.isascii() and port.isdecimal() and 1 <= int(port[:6]) <= 65535):
        raise InvalidRequest(f"address {address!r}: give HOST:PORT with a port of 1 .. 65535, {_EXAMPLES}")
    return _Place(address, ip, port, is_local=ip is not None and ip.is_loopback)


def _socket_file(address: str) -> _Place:
    path = address.removeprefix(_UNIX)
    if path.startswith("//") and not path.startswith("///"):
        raise InvalidRequest(f"address {address!r}: names a host; give unix:PATH or unix:///ABSOLUTE/PATH")
    size = len(path.removeprefix("//").encode())
    if size > _MAX_SOCKET_PATH_BYTES:
        raise InvalidRequest(
            f"address {address!r}: the path has {size} bytes, and sockets allow {_MAX_SOCKET_PATH_BYTES}; give a"
            " shorter one"
        )
    return _Place(address, None, "", is_local=True)
