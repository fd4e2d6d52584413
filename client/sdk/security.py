"""Reads and checks TLS files and tokens, because gRPC's own errors about them are obscure."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from client.errors import InvalidRequest
from client.sdk.addresses import Target

_MAX_PEM_BYTES: Final = 4 << 20  # a bundle of all public authorities takes about 0.2 MiB
MAX_TOKEN_CHARACTERS: Final = 8 << 10  # about the servers' limit for all headers together


@dataclass(frozen=True)
class TlsOptions:
    """How to verify the server and authenticate to it; by default, gRPC's public authorities are trusted.

    Attributes:
        root_certificates: PEM file with the certificates of the authorities to trust. None: the public ones.
        client_key: PEM file with this client's private key, not encrypted; needs `client_certificate`.
        client_certificate: PEM file with this client's certificate and the chain above it.
        server_name: The host name expected in the server's certificate. None: the host of the address.
    """

    root_certificates: Path | None = None
    client_key: Path | None = None
    client_certificate: Path | None = None
    server_name: str | None = None


def channel_credentials(tls: TlsOptions, target: Target) -> grpc.ChannelCredentials:
    """Reads and checks the files of `tls`.

    Raises:
        InvalidRequest: One cannot be read or used; the message begins with the name of the field.
    """
    name = tls.server_name
    if name is not None and (not name or not name.isascii() or not name.isprintable() or " " in name):
        raise InvalidRequest(f"server_name: must be a host name, not {name!r:.80}")
    if target.is_list and name is None:
        raise InvalidRequest("server_name: give the name in the servers' certificates; several addresses share none")
    roots = None if tls.root_certificates is None else _read("root_certificates", tls.root_certificates)
    if roots is not None:
        _check_roots(tls.root_certificates, roots)
    if tls.client_key is None or tls.client_certificate is None:
        if tls.client_key is not None or tls.client_certificate is not None:
            raise InvalidRequest("client_key: requires client_certificate; give both or neither")
        return grpc.ssl_channel_credentials(roots)
    key, chain = _read("client_key", tls.client_key), _read("client_certificate", tls.client_certificate)
    _check_pair(tls.client_key, tls.client_certificate)
    return grpc.ssl_channel_credentials(roots, key, chain)


def checked_token(token: str, target: Target, *, is_encrypted: bool) -> str:
    """Returns `token` if it is valid and may be sent to `target`.

    Raises:
        InvalidRequest: It is malformed, or would be sent in clear text; the message never contains it.
    """
    if not token or len(token) > MAX_TOKEN_CHARACTERS or not all("!" <= character <= "~" for character in token):
        raise InvalidRequest(f"token: must be 1 .. {MAX_TOKEN_CHARACTERS} printable ASCII characters without spaces")
    if not is_encrypted and not target.is_local:
        raise InvalidRequest(
            f"token: is not sent to {target.text} without TLS, because others could read it: turn TLS on"
        )
    return token


def _read(field: str, path: Path) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MAX_PEM_BYTES + 1)
    except (OSError, ValueError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InvalidRequest(f"{field}: {path} cannot be read ({reason}); name a PEM file") from error
    if len(content) > _MAX_PEM_BYTES or b"-----BEGIN " not in content:
        raise InvalidRequest(f"{field}: {path} is not a PEM file; convert it, for example with 'openssl x509'")
    return content


def _check_roots(path: Path | None, roots: bytes) -> None:
    try:
        # Comments may hold other characters, which Python refuses.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=roots.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError) as error:
        raise InvalidRequest(
            f"root_certificates: {path} holds no usable certificate; name a PEM file of certificates"
        ) from error


def _check_pair(key: Path, certificate: Path) -> None:
    try:
        # An empty password prevents a prompt on the terminal: gRPC cannot use an encrypted key anyway.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise InvalidRequest(
            f"client_key: {key} and {certificate} do not belong together, or the key is encrypted; give the private"
            " key of the certificate, without a password"
        ) from error
