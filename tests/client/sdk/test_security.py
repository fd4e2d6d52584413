"""TLS and tokens, against servers in this process with generated certificates."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from client import AccessDenied, AsyncGanClient, GanClient, InvalidRequest, ServerUnreachable, TlsOptions
from client.sdk.addresses import target_of
from client.sdk.security import checked_token
from client.sdk.transport import Connection
from tests.client.fake_server import FakeServer
from tests.client.raw_server import raw_server
from tests.client.sdk.certificates import NAME, Certificates, certificates

__all__ = ["certificates"]  # a fixture


@pytest.fixture
def secure(certificates: Certificates) -> Iterator[FakeServer]:
    with FakeServer().serve(credentials=certificates.for_server()) as running:
        yield running


def models(server: FakeServer, tls: TlsOptions | None, address: str = "") -> int:
    with GanClient(address or server.address, timeout_s=5, tls=tls) as client:
        return len(client.models())


def test_a_server_of_a_trusted_authority_is_reached(secure: FakeServer, certificates: Certificates) -> None:
    assert models(secure, TlsOptions(certificates.roots)) == 2
    assert models(secure, TlsOptions(certificates.roots, server_name=NAME)) == 2


def test_comments_between_certificates_may_be_in_any_language(
    secure: FakeServer, certificates: Certificates, tmp_path: Path
) -> None:
    (tmp_path / "roots.pem").write_bytes("# Főtanúsítvány\n".encode() + certificates.roots.read_bytes())
    assert models(secure, TlsOptions(tmp_path / "roots.pem")) == 2


async def test_the_async_client_uses_tls_too(secure: FakeServer, certificates: Certificates) -> None:
    async with AsyncGanClient(secure.address, tls=TlsOptions(certificates.roots), token="abc") as client:
        assert len(await client.models()) == 2
    assert secure.authorizations == ["Bearer abc"]


def test_several_servers_are_verified_by_their_common_name(secure: FakeServer, certificates: Certificates) -> None:
    both = f"{secure.address},127.0.0.1:1"
    assert models(secure, TlsOptions(certificates.roots, server_name=NAME), both) == 2
    with pytest.raises(
        InvalidRequest,
        match="server_name: give the name in the servers' certificates",
    ):
        models(secure, TlsOptions(certificates.roots), both)


@pytest.mark.usefixtures("quick_retries")
def test_connection_errors_name_the_cause_and_the_remedy(
    secure: FakeServer, server: FakeServer, certificates: Certificates
) -> None:
    with pytest.raises(ServerUnreachable, match=r"a trusted authority: set --tls-roots or TlsOptions"):
        models(secure, TlsOptions(certificates.other_roots))
    with pytest.raises(ServerUnreachable, match=r"for another name: set --tls-server-name"):
        models(secure, TlsOptions(certificates.roots, server_name="other.example.org"))
    with pytest.raises(ServerUnreachable, match=r"it does not use TLS: turn TLS off"):
        models(server, TlsOptions(certificates.roots))
    with pytest.raises(ServerUnreachable, match=r"it may be stopping, or require TLS"):
        models(secure, None)


@pytest.mark.usefixtures("quick_retries")
def test_an_expired_certificate_and_a_port_without_http2_are_named(certificates: Certificates) -> None:
    server = FakeServer()
    with (
        server.serve(credentials=certificates.for_server(is_expired=True)),
        pytest.raises(ServerUnreachable, match="its certificate has expired: renew it"),
    ):
        models(server, TlsOptions(certificates.roots))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server_certificate, certificates.server_key)
    context.set_alpn_protocols(["http/1.1"])

    def talk(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True):
            pass

    with raw_server(talk) as address, pytest.raises(ServerUnreachable, match="it has no HTTP/2, which gRPC requires"):
        models(server, TlsOptions(certificates.roots), address)


@pytest.mark.usefixtures("quick_retries")
def test_a_server_may_require_a_client_certificate(certificates: Certificates) -> None:
    server = FakeServer()
    with server.serve(credentials=certificates.for_server(asks_for_client=True)):
        known = TlsOptions(certificates.roots, certificates.client_key, certificates.client_certificate)
        assert models(server, known) == 2
        with pytest.raises(ServerUnreachable):
            models(server, TlsOptions(certificates.roots))


def test_files_that_cannot_be_used_are_refused_before_any_connection(
    certificates: Certificates, tmp_path: Path
) -> None:
    (tmp_path / "text.pem").write_text("hello\n")
    (tmp_path / "bad.pem").write_text("-----BEGIN CERTIFICATE-----\nhello\n-----END CERTIFICATE-----\n")
    (tmp_path / "huge.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\n" + bytes(5 << 20))
    key, chain = certificates.client_key, certificates.client_certificate
    cases = [
        (TlsOptions(tmp_path / "none.pem"), r"root_certificates: .*none\.pem cannot be read \(No such file"),
        (TlsOptions(tmp_path), r"root_certificates: .* cannot be read \(Is a directory\)"),
        (TlsOptions(tmp_path / "text.pem"), r"root_certificates: .*text\.pem is not a PEM file"),
        (TlsOptions(tmp_path / "huge.pem"), r"root_certificates: .*huge\.pem is not a PEM file"),
        (TlsOptions(tmp_path / "bad.pem"), r"root_certificates: .*bad\.pem holds no usable certificate"),
        (TlsOptions(key), r"root_certificates: .*user\.key holds no usable certificate"),
        (TlsOptions(client_key=key), "client_key: requires client_certificate; give both or neither"),
        (TlsOptions(client_certificate=chain), "client_key: requires client_certificate"),
        (TlsOptions(client_key=tmp_path / "none.key", client_certificate=chain), r"client_key: .*cannot be read"),
        (TlsOptions(client_key=certificates.server_key, client_certificate=chain), "do not belong together"),
        (TlsOptions(client_key=chain, client_certificate=key), "do not belong together"),
        (TlsOptions(server_name=""), "server_name: must be a host name"),
        (TlsOptions(server_name="a b"), "server_name: must be a host name"),
    ]
    for options, message in cases:
        with pytest.raises(InvalidRequest, match=message):
            GanClient(tls=options)


def test_an_encrypted_key_is_refused_without_a_password_prompt(certificates: Certificates, tmp_path: Path) -> None:
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization", reason="trustme brings it")
    key = serialization.load_pem_private_key(certificates.client_key.read_bytes(), None)
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(InvalidRequest, match="or the key is encrypted"):
        GanClient(tls=TlsOptions(client_key=encrypted, client_certificate=certificates.client_certificate))


def test_a_token_is_sent_with_each_request(server: FakeServer, secure: FakeServer, certificates: Certificates) -> None:
    with GanClient(server.address, token="a.b-c") as client:
        client.generate("dcgan")
    assert server.authorizations == ["Bearer a.b-c"] * 2
    with GanClient(secure.address, tls=TlsOptions(certificates.roots), token="d", channels=2) as client:
        client.generate("dcgan", seed=0, count=600)
    assert set(secure.authorizations) == {"Bearer d"}
    with GanClient(server.address) as client:
        client.models()
    assert server.authorizations[-1] is None


def test_a_refused_token_is_an_access_denied_error(server: FakeServer) -> None:
    server.failures.append((grpc.StatusCode.UNAUTHENTICATED, "who are you?"))
    with (
        GanClient(server.address, token="a") as client,
        pytest.raises(AccessDenied, match=r"denies access \(who are you\?\); give a valid token"),
    ):
        client.generate("dcgan")


@pytest.mark.parametrize("address", ["gan:1", "10.0.0.1:1", "127.0.0.1:1,10.0.0.1:1", "dns:///gan:1"])
def test_a_token_never_leaves_this_machine_without_tls(address: str, certificates: Certificates) -> None:
    with pytest.raises(InvalidRequest, match=r"token: is not sent to .* without TLS, because others could re"):
        GanClient(address, token="secret")
    GanClient(address, token="secret", tls=TlsOptions(certificates.roots, server_name=NAME)).close()


@pytest.mark.parametrize("token", ["", "a b", "a\n", "\u00e9", "a\x00", "a" * 8193])
def test_an_invalid_token_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(InvalidRequest, match=r"token: must be 1 \.\. 8192 printable") as raised:
        checked_token(token, target_of("localhost:1"), is_encrypted=True)
    assert not token.strip() or token not in str(raised.value)


def test_a_token_is_not_in_the_repr_of_its_holder() -> None:
    with Connection("localhost:1", token="secret") as connection:
        assert "secret" not in repr(connection.endpoint)  # what a debugger would show
