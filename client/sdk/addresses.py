"""What a server's address may be, and how gRPC wants to hear of it. Opens nothing."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from client.errors import InvalidRequest

DEFAULT_ADDRESS: Final = "127.0.0.1:50051"

Addresses: TypeAlias = str | Sequence[str]

_MAX_ADDRESSES: Final = 256
_HOST: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252})")
_DNS: Final = "dns:///"
_UNIX: Final = "unix:"
_EXAMPLES: Final = f"for example {DEFAULT_ADDRESS} or [::1]:50051"


@dataclass(frozen=True)
class Target:
    """Where to connect to.

    Attributes:
        text: for people.
        grpc_name: for gRPC.
        is_balanced: whether requests go to all servers behind it in turn.
        is_local: whether nothing that is sent leaves this machine.
        is_list: whether it is several addresses, which no host name covers.
    """

    text: str
    grpc_name: str
    is_balanced: bool = False
    is_local: bool = False
    is_list: bool = False


def target_of(addresses: Addresses) -> Target:
    """The target of one address, of several, or of several in one text with commas between.

    Raises:
        InvalidRequest: one of them is no address, or gRPC cannot connect to all of them together.
    """
    several = addresses.split(",") if isinstance(addresses, str) else list(addresses)
    if len(several) > _MAX_ADDRESSES:
        raise InvalidRequest(f"address: give at most {_MAX_ADDRESSES}, not {len(several)}; or one DNS name of them all")
    unique = list(dict.fromkeys(check_address(address.strip(" ")) for address in several))
    if not unique:
        raise InvalidRequest(f"address: there is none; give HOST:PORT, {_EXAMPLES}")
    return _single(unique[0]) if len(unique) == 1 else _several(unique)


def check_address(address: str) -> str:
    """Returns `address` if it is HOST:PORT, [IPV6]:PORT, dns:///HOST:PORT or unix:PATH.

    Raises:
        InvalidRequest: it is none of these.
    """
    if address.startswith(_UNIX) and len(address) > len(_UNIX) and address.isprintable():
        return address
    host, port = _host_and_port(address)
    if _is_host(host) and port.isascii() and port.isdecimal() and 1 <= int(port[:6]) <= 65535:
        return address
    raise InvalidRequest(f"address {address!r}: give HOST:PORT with a port of 1 .. 65535, {_EXAMPLES}")


def _single(address: str) -> Target:
    return Target(text=address, grpc_name=address, is_balanced=address.startswith(_DNS), is_local=_is_loopback(address))


def _several(addresses: list[str]) -> Target:
    """A list of addresses of one family, which is what gRPC takes beside one name; it knows no list of names."""
    sockets: list[str] = []
    families: set[int] = set()
    for address in addresses:
        host, port = _host_and_port(address)
        ip = _ip_address("127.0.0.1" if host == "localhost" else host.strip("[]"))
        if address.startswith((_UNIX, _DNS)) or ip is None:
            raise InvalidRequest(
                f"address {address!r}: among several, each must be IP:PORT; give IP addresses, or one DNS name that"
                f" stands for all servers, as {_DNS}HOST:PORT"
            )
        families.add(ip.version)
        sockets.append(f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}")
    if len(families) > 1:
        raise InvalidRequest("address: some are IPv4 and some IPv6, which gRPC does not mix; give all as one kind")
    return Target(
        text=",".join(addresses),
        grpc_name=f"ipv{families.pop()}:{','.join(sockets)}",
        is_balanced=True,
        is_local=all(map(_is_loopback, addresses)),
        is_list=True,
    )


def _host_and_port(address: str) -> tuple[str, str]:
    host, _, port = address.removeprefix(_DNS).rpartition(":")
    return host, port


def _is_host(host: str) -> bool:
    if host.startswith("[") and host.endswith("]"):
        return _ip_address(host[1:-1]) is not None
    return _HOST.fullmatch(host) is not None


def _is_loopback(address: str) -> bool:
    if address.startswith(_UNIX):
        return True
    host = _host_and_port(address)[0].strip("[]")
    ip = _ip_address(host)
    return host == "localhost" or (ip is not None and ip.is_loopback)


def _ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
