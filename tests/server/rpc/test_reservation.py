from __future__ import annotations

import socket

import pytest

from server.config import Address, ServerConfig
from server.errors import StartupError
from server.rpc.reservation import Reservation, refuse_shared_ports


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


def test_two_flags_with_the_same_address_are_refused_before_the_models_load() -> None:
    same = Address("127.0.0.1", 50051)
    with pytest.raises(StartupError, match=r"^--metrics-address: 127\.0\.0\.1:50051 is the address of --address too; "):
        refuse_shared_ports(ServerConfig(address=same, metrics_address=same))
    with pytest.raises(StartupError, match=r"^--admin-address: unix:it\.sock is the address of --address too; "):
        refuse_shared_ports(ServerConfig(address=Address("", 0, "it.sock"), admin_address=Address("", 0, "it.sock")))


def test_two_free_ports_are_different_addresses() -> None:
    refuse_shared_ports(ServerConfig(address=Address("::1", 0), admin_address=Address("::1", 0), metrics_address=None))
