"""Certificates for a server and its clients, generated once per test module."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest

trustme = pytest.importorskip("trustme", reason="NO TLS IS TESTED: pip install trustme, which makes the certificates")

NAME = "gan.example.org"


@dataclass(frozen=True)
class Certificates:
    """PEM files: two authorities, and key pairs of a server and a client that the first one signed."""

    roots: Path
    other_roots: Path
    server_key: Path
    server_certificate: Path
    expired_key: Path
    expired_certificate: Path
    client_key: Path
    client_certificate: Path

    def for_server(self, *, asks_for_client: bool = False, is_expired: bool = False) -> grpc.ServerCredentials:
        pair = (self.server_key.read_bytes(), self.server_certificate.read_bytes())
        if is_expired:
            pair = (self.expired_key.read_bytes(), self.expired_certificate.read_bytes())
        return grpc.ssl_server_credentials([pair], self.roots.read_bytes(), asks_for_client)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()

    def write(name: str, pem: bytes) -> Path:
        (folder / name).write_bytes(pem)
        return folder / name

    expired = authority.issue_cert("127.0.0.1", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    server, user = authority.issue_cert("127.0.0.1", NAME), authority.issue_cert("user@example.org")
    return Certificates(
        roots=write("roots.pem", authority.cert_pem.bytes()),
        other_roots=write("other.pem", trustme.CA().cert_pem.bytes()),
        server_key=write("server.key", server.private_key_pem.bytes()),
        server_certificate=write("server.pem", server.cert_chain_pems[0].bytes()),
        expired_key=write("expired.key", expired.private_key_pem.bytes()),
        expired_certificate=write("expired.pem", expired.cert_chain_pems[0].bytes()),
        client_key=write("user.key", user.private_key_pem.bytes()),
        client_certificate=write("user.pem", user.cert_chain_pems[0].bytes()),
    )
