"""Everything that the flags about security set up."""

from __future__ import annotations

from pathlib import Path

import grpc

from server.config import ServerConfig
from server.errors import StartupError
from server.security.access import Access
from server.security.tls import TlsFiles
from server.security.tokens import TokenFile


class Security:
    """Reads and checks the files that a config names.

    Args:
        config: the settings.

    Attributes:
        tls: the certificates; None without TLS.
        access: the rules on `--address`; None if every call is allowed.
        admin_access: the rules on `--admin-address`; None if every call is allowed.

    Raises:
        StartupError: a file cannot be used, or a flag lacks another; the message names the flag.
    """

    def __init__(self, config: ServerConfig) -> None:
        self.tls = _tls(config)
        tokens = _tokens("--token-file", config.token_file)
        admin_tokens = _tokens("--admin-token-file", config.admin_token_file)
        self.access = self.admin_access = Access(tokens, admin_tokens) if tokens or admin_tokens else None
        if config.admin_address is not None:
            self.access = Access(tokens, admin_tokens, str(config.admin_address))

    def credentials(self) -> grpc.ServerCredentials | None:
        """Returns credentials for a gRPC port; None without TLS."""
        return None if self.tls is None else self.tls.server_credentials()


def _tls(config: ServerConfig) -> TlsFiles | None:
    if config.tls_certificate is None or config.tls_key is None:
        for flag, value in (
            ("--tls-certificate", config.tls_certificate),
            ("--tls-key", config.tls_key),
            ("--tls-client-ca", config.tls_client_ca),
        ):
            if value is not None:
                raise StartupError(f"{flag}: TLS needs a certificate and its key; give --tls-certificate and --tls-key")
        return None
    return TlsFiles(config.tls_certificate, config.tls_key, config.tls_client_ca)


def _tokens(flag: str, path: Path | None) -> TokenFile | None:
    return None if path is None else TokenFile(flag, path)
