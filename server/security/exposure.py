"""Warns about addresses that other machines can reach without protection, or that have no use."""

from __future__ import annotations

import ipaddress

from server.config import Address, ServerConfig


def exposure_warnings(config: ServerConfig) -> list[str]:
    """Returns one line per address for requests that other machines can reach without protection, or that has no use.

    Args:
        config: the settings.
    """
    warnings = []
    addresses = {"--address": config.address, "--http-address": config.http_address}
    reachable = {flag: address for flag, address in addresses.items() if address is not None and not _is_local(address)}
    lacks = _lacks(config)
    for flag, address in reachable.items():
        if lacks:
            warnings.append(
                f"{flag} {address}: other machines can reach it {lacks}; see Security in docs/server-reference.md"
            )
    has_admin = config.admin_address is not None or config.admin_token_file is not None
    if reachable and config.model_control != "none" and not has_admin:
        warnings.append(
            f"--model-control {config.model_control}: every caller of {' and '.join(map(str, reachable.values()))} may"
            " load and unload models; set --admin-address or --admin-token-file"
        )
    if config.admin_address is not None and config.model_control == "none":
        warnings.append(
            f"--admin-address {config.admin_address}: has no use, because clients may not load models; add"
            " --model-control explicit or poll"
        )
    elif config.admin_address is not None and not _is_local(config.admin_address):
        lacks = _lacks(config, admin=True)
        if lacks:
            warnings.append(
                f"--admin-address {config.admin_address}: other machines can load and unload models {lacks};"
                " listen on 127.0.0.1"
            )
    return warnings


def _lacks(config: ServerConfig, *, admin: bool = False) -> str:
    has_tokens = config.token_file is not None or (admin and config.admin_token_file is not None)
    lacks = []
    if config.tls_certificate is None:
        lacks.append("without TLS (--tls-certificate, --tls-key)")
    if not has_tokens and config.tls_client_ca is None:
        lacks.append("without authentication (--token-file or --tls-client-ca)")
    return " and ".join(lacks)


def _is_local(address: Address) -> bool:
    try:
        return ipaddress.ip_address(address.host).is_loopback
    except ValueError:  # a name
        return address.host == "localhost" or str(address).startswith("unix:")
