"""The certificates of the server: read from PEM files, checked, and read again once the files change."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from server.errors import StartupError
from server.security.reloaded import Reloaded, read_file

_CERTIFICATE: Final = "--tls-certificate"
_KEY: Final = "--tls-key"
_CLIENT_CA: Final = "--tls-client-ca"
_PEM: Final = "a PEM file"


@dataclass(frozen=True, eq=False)
class _Loaded:
    """One state of the files. Compared by identity."""

    for_grpc: grpc.ServerCertificateConfiguration
    for_ssl: ssl.SSLContext


class TlsFiles:
    """The certificate of the server, its key, and the authorities that sign the certificates of its clients.

    New connections use the files as they are then; connections that exist continue. While the files cannot be used,
    those read before stay in use.

    Args:
        certificate: PEM file with the certificate of the server and the chain above it.
        key: PEM file with its private key, not encrypted.
        client_ca: PEM file with authorities. If given, every client must have a certificate that one of them signed.

    Raises:
        StartupError: the files cannot be used; the message names the flag.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None = None) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        files = [certificate, key] if client_ca is None else [certificate, key, client_ca]
        self._files = Reloaded(files, self._read)

    def server_credentials(self) -> grpc.ServerCredentials:
        """Returns credentials for a port of a gRPC server."""
        last = self._files.get()

        def changed() -> grpc.ServerCertificateConfiguration | None:
            # gRPC calls this before each handshake; None means no change.
            nonlocal last
            now = self._files.get()
            if now is last:
                return None
            last = now
            return now.for_grpc

        return grpc.dynamic_ssl_server_credentials(
            last.for_grpc,
            changed,  # type: ignore[arg-type]  # the stub forgets None
            require_client_authentication=self._client_ca is not None,
        )

    def ssl_context(self) -> ssl.SSLContext:
        """Returns a context for a server that uses Python's ssl module."""
        context = self._context()

        # Called for each handshake, although Python names it after the server name that a client may send.
        def use_newest(connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
            connection.context = self._files.get().for_ssl

        context.sni_callback = use_newest
        return context

    def _read(self) -> _Loaded:
        certificate = read_file(_CERTIFICATE, self._certificate, _PEM)
        key = read_file(_KEY, self._key, _PEM)
        client_ca = None if self._client_ca is None else read_file(_CLIENT_CA, self._client_ca, _PEM)
        # gRPC accepts anything here and then fails in each handshake; Python's ssl module checks.
        context = self._context()
        configuration = grpc.ssl_server_certificate_configuration([(key, certificate)], client_ca)
        return _Loaded(configuration, context)

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self._certificate, self._key, password="")  # a password would be asked for
        except (ssl.SSLError, OSError, ValueError) as error:
            raise StartupError(
                f"{_KEY}: {self._key} and {self._certificate} are not a private key and its certificate in PEM"
                f" ({_reason(error)}); give the key of this certificate, without a password"
            ) from error
        if self._client_ca is not None:
            try:
                context.load_verify_locations(self._client_ca)
            except (ssl.SSLError, OSError, ValueError) as error:
                raise StartupError(
                    f"{_CLIENT_CA}: {self._client_ca} holds no usable certificate ({_reason(error)});"
                    " name a PEM file of certificates"
                ) from error
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
