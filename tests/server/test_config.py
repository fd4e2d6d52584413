from __future__ import annotations

import pytest

from server.config import MESSAGE_OVERHEAD_BYTES, Address, ServerConfig


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:50051", Address("127.0.0.1", 50051)),
        ("[::1]:0", Address("::1", 0)),
        ("h:65535", Address("h", 65535)),
        ("unix:/run/g.sock", Address("", 0, "/run/g.sock")),
        ("unix:a b:1", Address("", 0, "a b:1")),
    ],
)
def test_addresses_survive_parsing_and_formatting(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize("text", ["", "localhost", "h:", ":1", "h:65536", "h:-1", "h:http", "::1:50051", " h:1"])
def test_a_text_that_is_not_an_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not HOST:PORT .* write for example 127\.0\.0\.1:50051$"):
        Address.parse(text)


def test_a_unix_socket_may_be_written_as_a_url() -> None:
    assert Address.parse("unix:///run/g.sock") == Address.parse("unix:/run/g.sock")


@pytest.mark.parametrize("text", ["unix:", f"unix:{'é' * 54}", "unix:a\nb", "unix:a\0"])
def test_a_path_that_cannot_be_a_socket_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not unix:PATH .* write for example unix:/run/ganserve\.sock$"):
        Address.parse(text)


@pytest.mark.parametrize("max_request_bytes", [1000, 64 << 20, 1 << 30])
def test_a_single_request_of_the_largest_size_always_fits(max_request_bytes: int) -> None:
    config = ServerConfig(max_request_bytes=max_request_bytes)
    assert config.input_budget_bytes >= max(512 << 20, 2 * max_request_bytes + MESSAGE_OVERHEAD_BYTES)


@pytest.mark.parametrize("max_response_bytes", [1000, 256 << 20, 2 << 30])
def test_a_single_answer_of_the_largest_size_always_fits(max_response_bytes: int) -> None:
    config = ServerConfig(max_response_bytes=max_response_bytes)
    assert config.answer_budget_bytes >= max(1 << 30, max_response_bytes + MESSAGE_OVERHEAD_BYTES)
