"""The server's TLS and tokens together with three clients: GanClient, AsyncGanClient and Triton's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from client import AccessDenied, AsyncGanClient, GanClient, GanClientError, ServerUnreachable
from client.sdk.security import TlsOptions
from server.app import Server
from tests.server.fronts.served import FRONTS
from tests.server.security.certificates import Authority, Pair

Start = Callable[..., Awaitable[Server]]
SECRET, NEXT_SECRET, ADMIN_SECRET = "a-secret", "the-next-secret", "an-admin-secret"


@dataclass(frozen=True)
class Caller:
    """What the clients have to prove who they are, and whom they trust."""

    roots: Path | None = None
    pair: Pair | None = None
    token: str | None = None

    @property
    def tls(self) -> TlsOptions | None:
        if self.roots is None:
            return None
        return TlsOptions(self.roots) if self.pair is None else TlsOptions(self.roots, self.pair.key, self.pair[0])

    def ask(self, server: Server) -> list[str]:
        with GanClient(str(server.address), tls=self.tls, token=self.token) as client:
            return [model.name for model in client.models()]

    async def ask_async(self, server: Server) -> list[str]:
        async with AsyncGanClient(str(server.address), tls=self.tls, token=self.token) as client:
            return [model.name for model in await client.models()]

    def triton(self, server: Server) -> triton.InferenceServerClient:
        return triton.InferenceServerClient(
            str(server.address),
            ssl=self.roots is not None,
            root_certificates=None if self.roots is None else str(self.roots),
            private_key=None if self.pair is None else str(self.pair.key),
            certificate_chain=None if self.pair is None else str(self.pair.certificate),
        )

    @property
    def headers(self) -> dict[str, str] | None:
        return None if self.token is None else {"authorization": f"Bearer {self.token}"}

    def ask_triton(self, server: Server) -> list[str]:
        with self.triton(server) as client:
            return [client.get_model_metadata("tiny", headers=self.headers).name]

    async def everywhere(self, server: Server) -> list[Any]:
        """Asks through all clients; returns what each answers or raises."""
        asked = (
            asyncio.to_thread(self.ask, server),
            self.ask_async(server),
            asyncio.to_thread(self.ask_triton, server),
        )
        return [*await asyncio.gather(*asked, return_exceptions=True)]


async def assert_answered(caller: Caller, server: Server) -> None:
    assert await caller.everywhere(server) == [["tiny"]] * 3


async def assert_refused(caller: Caller, server: Server, kind: type[GanClientError], *parts: str) -> None:
    """The three clients fail, and each message has the first part; the rest is the remedy of our clients."""
    ours, ours_async, foreign = await caller.everywhere(server)
    for error in (ours, ours_async):
        assert type(error) is kind, error
        assert all(part in str(error) for part in parts), error
    assert isinstance(foreign, InferenceServerException), foreign
    assert parts[0] in foreign.message(), foreign


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def tls(pair: Pair, client_ca: Path | None = None) -> dict[str, Path | None]:
    return {"tls_certificate": pair.certificate, "tls_key": pair.key, "tls_client_ca": client_ca}


async def test_clients_that_trust_the_authority_are_answered(start_server: Start, authority: Authority) -> None:
    server = await start_server(**tls(authority.issue("server")))
    await assert_answered(Caller(authority.roots), server)


async def test_a_client_that_trusts_another_authority_says_so(
    start_server: Start, authority: Authority, tmp_path: Path
) -> None:
    server = await start_server(**tls(authority.issue("server")))
    caller = Caller(Authority(tmp_path, "other").roots)
    await assert_refused(
        caller, server, ServerUnreachable, "CERTIFICATE_VERIFY_FAILED", "not from a trusted authority: set --tls-roots"
    )


async def test_an_expired_certificate_is_named_as_such(start_server: Start, authority: Authority) -> None:
    server = await start_server(**tls(authority.issue_expired("server")))
    await assert_refused(
        Caller(authority.roots),
        server,
        ServerUnreachable,
        "certificate has expired",
        "its certificate has expired: renew it",
    )


async def test_a_certificate_for_another_host_is_named_as_such(start_server: Start, authority: Authority) -> None:
    server = await start_server(**tls(authority.issue("server", host="gan.example.org")))
    await assert_refused(
        Caller(authority.roots),
        server,
        ServerUnreachable,
        "Hostname Verification Check failed",
        "its certificate is for another name: set --tls-server-name",
    )


async def test_clients_without_tls_learn_that_it_may_be_needed(start_server: Start, authority: Authority) -> None:
    server = await start_server(**tls(authority.issue("server")))
    await assert_refused(Caller(), server, ServerUnreachable, "", "require TLS (--tls, TlsOptions)")


async def test_a_client_with_a_certificate_is_answered_where_one_is_needed(
    start_server: Start, authority: Authority
) -> None:
    server = await start_server(**tls(authority.issue("server"), authority.roots))
    await assert_answered(Caller(authority.roots, authority.issue("user")), server)


@pytest.mark.parametrize("has_certificate", [False, True], ids=["none", "one of another authority"])
async def test_a_client_without_a_trusted_certificate_is_refused_where_one_is_needed(
    start_server: Start, authority: Authority, tmp_path: Path, has_certificate: bool
) -> None:
    server = await start_server(**tls(authority.issue("server"), authority.roots))
    pair = Authority(tmp_path, "other").issue("stranger") if has_certificate else None
    await assert_refused(Caller(authority.roots, pair), server, ServerUnreachable, "", "or a client certificate")


async def test_a_new_certificate_is_used_by_the_next_connection(start_server: Start, authority: Authority) -> None:
    server = await start_server(**tls(authority.issue_expired("server")))
    caller = Caller(authority.roots)
    with pytest.raises(InferenceServerException, match="certificate has expired"):
        await asyncio.to_thread(caller.ask_triton, server)
    authority.issue("server")
    await assert_answered(caller, server)


async def test_new_authorities_of_clients_hold_for_the_next_connection(
    start_server: Start, authority: Authority, tmp_path: Path
) -> None:
    client_ca = tmp_path / "client-ca.pem"
    write_copy(client_ca, authority.roots)
    server = await start_server(**tls(authority.issue("server"), client_ca))
    other = Authority(tmp_path, "other")
    old, new = Caller(authority.roots, authority.issue("old")), Caller(authority.roots, other.issue("new"))
    await assert_answered(old, server)
    write_copy(client_ca, other.roots)
    await assert_answered(new, server)
    with pytest.raises(InferenceServerException, match="UNAVAILABLE"):
        await asyncio.to_thread(old.ask_triton, server)


def write_copy(path: Path, source: Path) -> None:
    path.write_bytes(source.read_bytes())


async def test_open_connections_survive_a_new_certificate(
    start_server: Start, authority: Authority, tmp_path: Path
) -> None:
    pair = authority.issue("server")
    server = await start_server(**tls(pair))
    other = Authority(tmp_path, "other")
    with Caller(authority.roots).triton(server) as connected:
        assert await asyncio.to_thread(connected.is_server_live)
        other.issue("server")
        assert await asyncio.to_thread(connected.is_server_live)
        await assert_answered(Caller(other.roots), server)


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(f"# of the web shop\n{SECRET}\n")
    return path


@pytest.fixture
def admin_token_file(tmp_path: Path) -> Path:
    path = tmp_path / "admin-tokens"
    path.write_text(ADMIN_SECRET)
    return path


async def test_a_token_opens_the_server_over_tls(start_server: Start, authority: Authority, token_file: Path) -> None:
    server = await start_server(**tls(authority.issue("server")), token_file=token_file)
    await assert_answered(Caller(authority.roots, token=SECRET), server)
    await assert_refused(Caller(authority.roots), server, AccessDenied, "the call carries no token")


@pytest.mark.parametrize(
    ("token", "reason"), [(None, "the call carries no token: send one"), ("another", "the token is not valid")]
)
async def test_a_missing_or_wrong_token_is_named_as_such(
    start_server: Start, token_file: Path, token: str | None, reason: str
) -> None:
    server = await start_server(token_file=token_file)
    await assert_refused(Caller(token=token), server, AccessDenied, reason, "give a valid token")


def write_tokens(path: Path, *tokens: str) -> None:
    path.write_text("\n".join(tokens))


async def test_a_replaced_token_works_and_the_old_one_does_not(start_server: Start, token_file: Path) -> None:
    server = await start_server(token_file=token_file)
    await assert_answered(Caller(token=SECRET), server)
    write_tokens(token_file, SECRET, NEXT_SECRET)
    await assert_answered(Caller(token=NEXT_SECRET), server)
    await assert_answered(Caller(token=SECRET), server)
    write_tokens(token_file, NEXT_SECRET)
    await assert_refused(Caller(token=SECRET), server, AccessDenied, "the token is not valid")


async def test_the_control_plane_needs_an_admin_token(
    start_server: Start, token_file: Path, admin_token_file: Path
) -> None:
    server = await start_server(token_file=token_file, admin_token_file=admin_token_file, model_control="explicit")
    user, admin = Caller(token=SECRET), Caller(token=ADMIN_SECRET)
    await assert_answered(user, server)
    await assert_answered(admin, server)

    def control(caller: Caller) -> None:
        with caller.triton(server) as client:
            calls: list[Callable[..., Any]] = [
                partial(client.load_model, "tiny"),
                client.get_model_repository_index,
                client.get_inference_statistics,
                partial(client.unload_model, "tiny"),
            ]
            for call in calls:
                if caller is admin:
                    call(headers=caller.headers)
                else:
                    with pytest.raises(InferenceServerException, match=r"PERMISSION_DENIED.*: send an admin token"):
                        call(headers=caller.headers)

    await asyncio.to_thread(control, user)
    assert "tiny" in server.core.catalog
    await asyncio.to_thread(control, admin)
    assert "tiny" not in server.core.catalog


async def test_probes_need_no_token(start_server: Start, token_file: Path) -> None:
    server = await start_server(token_file=token_file)

    def healthy() -> bool:
        with GanClient(str(server.address)) as client:
            return client.healthy()

    assert await asyncio.to_thread(healthy)
