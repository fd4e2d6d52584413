from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import AsyncGanClient, GanClient, InvalidRequest
from client.sdk.addresses import target_of


@pytest.mark.parametrize(
    "address",
    [
        "localhost:1",
        "127.0.0.1:50051",
        "[::1]:65535",
        "gan-server.example.org:80",
        "dns:///gan:80",
        "unix:/tmp/a",
        "unix:///a",
        "unix:a",
    ],
)
def test_valid_addresses_are_accepted(address: str) -> None:
    assert (target_of(address).text, target_of(address).grpc_name) == (address, address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "localhost",
        ":1",
        "localhost:",
        "localhost:0",
        "localhost:65536",
        "localhost:9999999999",
        "localhost:x",
        "::1:1",
        "[::1]",
        "[gan]:1",
        "http://localhost:1",
        "a b:1",
        "localhost:1\n",
        "localhost:\u0661",
        "unix:",
        "dns:///",
        "-a:1",
        "127.0.0.1:1,",
        "127.0.0.1:1;127.0.0.1:2",
    ],
)
def test_bad_addresses_are_refused_with_an_example(address: str) -> None:
    with pytest.raises(InvalidRequest, match=r"address .*: give HOST:PORT .* for example 127\.0\.0\.1:50051"):
        GanClient(address)
    with pytest.raises(InvalidRequest, match="give HOST:PORT"):
        AsyncGanClient(address)


@pytest.mark.parametrize(
    ("addresses", "name"),
    [
        ("10.0.0.1:1,10.0.0.2:2", "ipv4:10.0.0.1:1,10.0.0.2:2"),
        (["10.0.0.1:1", "localhost:2"], "ipv4:10.0.0.1:1,127.0.0.1:2"),
        (("[::1]:1", "[fe80::1]:2"), "ipv6:[::1]:1,[fe80::1]:2"),
        ("10.0.0.1:1, 10.0.0.2:2,10.0.0.1:1", "ipv4:10.0.0.1:1,10.0.0.2:2"),
    ],
)
def test_several_addresses_take_turns(addresses: str | list[str], name: str) -> None:
    target = target_of(addresses)
    assert target.grpc_name == name
    assert target.is_balanced
    assert target.is_list


def test_a_single_or_repeated_address_in_a_list_is_one_address() -> None:
    assert target_of(["gan:1"]) == target_of("gan:1,gan:1") == target_of("gan:1")
    assert not target_of("gan:1").is_balanced


def test_all_addresses_behind_a_dns_name_take_turns() -> None:
    assert target_of("dns:///gan.example.org:80").is_balanced


@pytest.mark.parametrize(
    ("addresses", "message"),
    [
        ([], "is missing"),
        ("a:1,b:1", r"'a:1': among several, each must be IP:PORT; give IP addresses, or one DNS name .* dns:///HOST"),
        ("10.0.0.1:1,gan:1", "'gan:1': among several"),
        ("10.0.0.1:1,dns:///gan:1", "'dns:///gan:1': among several"),
        ("unix:/a,unix:/b", "'unix:/a': among several"),
        ("10.0.0.1:1,[::1]:1", "some are IPv4 and some IPv6"),
        ([f"10.0.0.1:{port}" for port in range(1, 300)], "at most 256, not 299"),
    ],
)
def test_lists_of_addresses_that_grpc_does_not_support_are_refused(addresses: str | list[str], message: str) -> None:
    with pytest.raises(InvalidRequest, match=f"address.*{message}"):
        GanClient(addresses)


@pytest.mark.parametrize(
    ("addresses", "is_local"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("localhost:1", True),
        ("dns:///localhost:1", True),
        ("[::1]:1", True),
        ("unix:/tmp/a", True),
        ("127.0.0.1:1,localhost:2", True),
        ("127.0.0.1:1,10.0.0.1:1", False),
        ("0.0.0.0:1", False),
        ("localhost.example.org:1", False),
        ("gan:1", False),
    ],
)
def test_only_loopback_and_unix_addresses_are_local(addresses: str, is_local: bool) -> None:
    assert target_of(addresses).is_local is is_local


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("unix:/" + "a" * 107, "the path has 108 bytes, and sockets allow 107; give a shorter one"),
        ("unix:///" + "ü" * 54, "the path has 109 bytes"),
        ("unix://tmp/gan.sock", "names a host; give unix:PATH or unix:///ABSOLUTE/PATH"),
    ],
)
def test_socket_files_that_cannot_be_opened_are_refused(address: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        GanClient(address)
    GanClient("unix:/" + "a" * 106).close()


@given(st.text(max_size=40) | st.from_regex(r"[a-z0-9.:,/\[\]]{0,30}", fullmatch=True))
def test_any_text_is_parsed_as_an_address_or_refused(text: str) -> None:
    try:
        target = target_of(text)
    except InvalidRequest as error:
        assert str(error).startswith("address")  # noqa: PT017  (both ends are right)
    else:
        assert target.text.isprintable()
