from __future__ import annotations

import socket

import pytest

from server.config import Address, ServerConfig
from server.errors import StartupError
from server.rpc.reservation import Reservation, check_distinct


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_reserved_port_refuses_connections(host: str) -> None:
    reservation = Reservation(Address(host, 0))
    assert reservation.address.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, reservation.address.port))
    reservation.close()
    reservation.close()


def test_a_port_on_which_another_program_listens_is_not_available() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(StartupError, match=f"^--address: cannot listen on {address} .*in use"):
            Reservation(address)


def test_a_name_that_does_not_resolve_is_not_available() -> None:
    with pytest.raises(StartupError, match=r"^--address: cannot listen on name\.invalid:1 "):
        Reservation(Address("name.invalid", 1))


def test_a_port_whose_old_connections_are_not_forgotten_yet_can_be_reserved() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address("127.0.0.1", listener.getsockname()[1])
        with socket.create_connection(listener.getsockname()):
            listener.accept()[0].close()  # the side that closes first waits for a minute
    Reservation(address).close()


@pytest.mark.parametrize(
    ("addresses", "message"),
    [
        (("127.0.0.1:80", "127.0.0.1:80", "127.0.0.1:81"), "--admin-address: 127.0.0.1:80 is the --address already;"),
        (("unix:/x", "unix:/x", "127.0.0.1:81"), "--admin-address: unix:/x is the --address already;"),
        (("127.0.0.1:80", "127.0.0.1:81", "127.0.0.1:80"), "--metrics-address: 127.0.0.1:80 is the --address already;"),
    ],
)
def test_two_flags_cannot_name_the_same_address(addresses: tuple[str, str, str], message: str) -> None:
    address, admin_address, metrics_address = map(Address.parse, addresses)
    with pytest.raises(StartupError, match=f"^{message} give another address$"):
        check_distinct(ServerConfig(address=address, admin_address=admin_address, metrics_address=metrics_address))


def test_free_ports_and_missing_ports_are_distinct() -> None:
    check_distinct(
        ServerConfig(address=Address("127.0.0.1", 0), admin_address=Address("127.0.0.1", 0), metrics_address=None)
    )
