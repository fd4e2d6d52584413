from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from server.config import Address, ServerConfig
from server.security.exposure import exposure_warnings

FILE = Path("file")
TLS = {"tls_certificate": FILE, "tls_key": FILE}
OPEN = Address("0.0.0.0", 50051)


def warnings(**settings: Any) -> list[str]:
    return exposure_warnings(ServerConfig(**settings))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_the_loopback_needs_no_protection(host: str) -> None:
    assert not warnings(address=Address(host, 1), model_control="explicit", admin_address=Address(host, 2))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "server.example.org"])
def test_an_open_address_gets_one_line(host: str) -> None:
    [line] = warnings(address=Address(host, 50051))
    assert line.startswith(f"--address {Address(host, 50051)}: other machines can reach it without TLS")
    assert " and without authentication (--token-file or --tls-client-ca)" in line


def test_an_open_http_address_gets_one_line_too() -> None:
    http = Address("0.0.0.0", 8080)
    [line] = warnings(http_address=http)
    assert line.startswith("--http-address 0.0.0.0:8080: other machines can reach it without TLS")
    assert len(warnings(address=OPEN, http_address=http)) == 2
    assert not warnings(http_address=Address("127.0.0.1", 8080))
    [line] = warnings(http_address=http, **TLS, token_file=FILE, model_control="explicit")
    assert "every caller of 0.0.0.0:8080 may load" in line


@pytest.mark.parametrize(
    ("settings", "named", "unnamed"),
    [
        (TLS, "--token-file", "--tls-certificate"),
        ({"token_file": FILE}, "--tls-certificate", "--token-file"),
    ],
)
def test_the_line_names_what_is_missing(settings: Any, named: str, unnamed: str) -> None:
    [line] = warnings(address=OPEN, **settings)
    assert named in line
    assert unnamed not in line


@pytest.mark.parametrize("more", [{"token_file": FILE}, {"tls_client_ca": FILE}])
def test_tls_with_tokens_or_with_certificates_of_clients_is_enough(more: Any) -> None:
    assert not warnings(address=OPEN, **TLS, **more)


def test_a_control_plane_for_all_callers_gets_a_line() -> None:
    protected = {"address": OPEN, **TLS, "token_file": FILE, "model_control": "explicit"}
    [line] = warnings(**protected)
    assert line.startswith("--model-control explicit: every caller of 0.0.0.0:50051 may load and unload models")
    assert not warnings(**protected, admin_token_file=FILE)
    assert not warnings(**protected, admin_address=Address("127.0.0.1", 1))


def test_an_open_admin_address_gets_a_line() -> None:
    [line] = warnings(admin_address=Address("::", 1), model_control="explicit")
    assert line.startswith("--admin-address [::]:1: other machines can load and unload models without TLS")
    assert not warnings(admin_address=Address("::", 1), model_control="explicit", admin_token_file=FILE, **TLS)


def test_an_admin_address_on_which_no_model_can_be_loaded_gets_a_line() -> None:
    [line] = warnings(admin_address=Address("127.0.0.1", 1))
    assert line.startswith("--admin-address 127.0.0.1:1: has no use, ")
    assert line.endswith("; add --model-control explicit or poll")
