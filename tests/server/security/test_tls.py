from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from server.errors import StartupError
from server.security.tls import TlsFiles
from tests.server.security.certificates import HOST, Authority, Pair


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@asynccontextmanager
async def listening(context: ssl.SSLContext) -> AsyncIterator[int]:
    """A TLS server that answers each connection with one byte; yields its port."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x")
        writer.close()

    server = await asyncio.start_server(answer, HOST, 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def ask(port: int, roots: Path, pair: Pair | None = None, name: str = HOST) -> bytes:
    context = ssl.create_default_context(cafile=str(roots))
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    reader, writer = await asyncio.open_connection(HOST, port, ssl=context, server_hostname=name)
    try:
        return await reader.read()
    finally:
        writer.close()


async def refused(asking: Awaitable[bytes]) -> bool:
    """Whether the server ends the connection: with TLS 1.3, a client learns that only when it reads."""
    try:
        return await asking == b""
    except (ssl.SSLError, ConnectionError):
        return True


@pytest.mark.parametrize("name", [HOST, "localhost"], ids=["without a server name", "with a server name"])
async def test_a_context_uses_a_new_certificate_for_the_next_connection(
    authority: Authority, tmp_path: Path, name: str
) -> None:
    pair = authority.issue("server", host=name)
    other = Authority(tmp_path, "other")
    async with listening(TlsFiles(*pair).ssl_context()) as port:
        assert await ask(port, authority.roots, name=name) == b"x"
        other.issue("server", host=name)
        assert await ask(port, other.roots, name=name) == b"x"
        with pytest.raises(ssl.SSLCertVerificationError):
            await ask(port, authority.roots, name=name)


async def test_a_context_uses_new_authorities_of_clients(authority: Authority, tmp_path: Path) -> None:
    server, user = authority.issue("server"), authority.issue("user")
    other = Authority(tmp_path, "other")
    stranger = other.issue("stranger")
    roots = tmp_path / "client-ca.pem"
    roots.write_bytes(authority.roots.read_bytes())
    async with listening(TlsFiles(*server, roots).ssl_context()) as port:
        assert await ask(port, authority.roots, user) == b"x"
        assert await refused(ask(port, authority.roots, stranger))
        assert await refused(ask(port, authority.roots))
        roots.write_bytes(other.roots.read_bytes())
        assert await ask(port, authority.roots, stranger) == b"x"
        assert await refused(ask(port, authority.roots, user))


async def test_a_mismatched_pair_keeps_the_old_one_with_one_line_in_the_log(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pair = authority.issue("server")
    new = Authority(tmp_path, "other").issue("new")
    caplog.set_level(logging.INFO)
    async with listening(TlsFiles(*pair).ssl_context()) as port:
        pair.certificate.write_bytes(new.certificate.read_bytes())
        for _ in range(3):
            assert await ask(port, authority.roots) == b"x"
        [line] = caplog.messages
        assert line.startswith(f"--tls-key: {pair.key} and {pair.certificate} are not a private key and its")
        pair.key.write_bytes(new.key.read_bytes())
        assert await ask(port, tmp_path / "other.pem") == b"x"
    assert caplog.messages[1:] == [f"read again after a change: {pair.certificate}, {pair.key}"]


def encrypted(pair: Pair) -> None:
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization", reason="trustme brings it")
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
    pair.key.write_bytes(pem)


def test_an_encrypted_key_is_named_and_no_password_is_asked_for(authority: Authority) -> None:
    pair = authority.issue("server")
    encrypted(pair)
    with pytest.raises(StartupError, match=f"^--tls-key: {pair.key} .* without a password$"):
        TlsFiles(*pair)


def test_files_that_do_not_belong_together_are_named(authority: Authority) -> None:
    first, second = authority.issue("first"), authority.issue("second")
    with pytest.raises(StartupError, match=r"^--tls-key: .*\(KEY_VALUES_MISMATCH\); give the key of this certificate"):
        TlsFiles(first.certificate, second.key)


@pytest.mark.parametrize("flag", ["--tls-certificate", "--tls-key", "--tls-client-ca"])
@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_an_unusable_file_is_named_in_one_line(
    authority: Authority, tmp_path: Path, flag: str, content: bytes | None
) -> None:
    pair = authority.issue("server")
    files = {"--tls-certificate": pair.certificate, "--tls-key": pair.key, "--tls-client-ca": authority.roots}
    files[flag] = tmp_path / "unusable"
    if content is not None:
        files[flag].write_bytes(content)
    with pytest.raises(StartupError) as raised:
        TlsFiles(*files.values())
    text = str(raised.value)
    assert str(files[flag]) in text
    assert text.startswith("--tls-")
    assert "\n" not in text
    if content is None:
        assert text == f"{flag}: {files[flag]} cannot be read (No such file or directory); name a PEM file"
