from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

from server.app import Server
from server.config import Address, ServerConfig
from server.errors import StartupError
from server.security.security import Security
from tests.server.security.certificates import Authority

Start = Callable[..., Awaitable[Server]]
ANY_PORT = Address("127.0.0.1", 0)


def test_nothing_is_checked_by_default() -> None:
    security = Security(ServerConfig())
    assert (security.tls, security.access, security.admin_access, security.credentials()) == (None, None, None, None)


@pytest.mark.parametrize("field", ["tls_certificate", "tls_key", "tls_client_ca"])
def test_a_flag_of_tls_alone_is_refused(tmp_path: Path, field: str) -> None:
    settings: Any = {field: tmp_path / "file"}
    flag = f"--{field.replace('_', '-')}"
    with pytest.raises(StartupError, match=f"^{flag}: TLS needs a certificate and its key; give --tls-certificate and"):
        Security(ServerConfig(**settings))


@pytest.mark.parametrize("field", ["token_file", "admin_token_file"])
def test_a_missing_token_file_is_named_with_its_flag(tmp_path: Path, field: str) -> None:
    settings: Any = {field: tmp_path / "file"}
    with pytest.raises(StartupError, match=f"^--{field.replace('_', '-')}: .* cannot be read"):
        Security(ServerConfig(**settings))


async def test_models_are_loaded_on_the_admin_address_only(start_server: Start) -> None:
    server = await start_server(model_control="explicit", admin_address=ANY_PORT)
    assert server.admin_address is not None
    assert server.admin_address.port not in {0, server.address.port}
    where = f"is answered on the admin address of this server only: call it on {server.admin_address}, "
    async with triton.InferenceServerClient(str(server.address)) as client:
        for call in (client.load_model("tiny"), client.unload_model("tiny")):
            with pytest.raises(InferenceServerException) as raised:
                await call
            assert raised.value.status() == "StatusCode.PERMISSION_DENIED"
            assert where in raised.value.message()
        assert [entry.name for entry in (await client.get_model_repository_index()).models] == ["tiny"]
    async with triton.InferenceServerClient(str(server.admin_address)) as client:
        await client.load_model("tiny")
        assert (await client.get_model_metadata("tiny")).name == "tiny"
        await client.unload_model("tiny")
        assert not await client.is_model_ready("tiny")


async def test_the_admin_address_uses_the_same_tls_and_tokens(start_server: Start, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    (tmp_path / "tokens").write_text("secret")
    server = await start_server(
        model_control="explicit",
        admin_address=ANY_PORT,
        tls_certificate=certificate,
        tls_key=key,
        admin_token_file=tmp_path / "tokens",
    )
    async with triton.InferenceServerClient(
        str(server.admin_address), ssl=True, root_certificates=str(authority.roots)
    ) as client:
        with pytest.raises(InferenceServerException, match="needs a token of the server's --admin-token-file"):
            await client.load_model("tiny")
        await client.load_model("tiny", headers={"authorization": "Bearer secret"})


async def test_an_admin_address_in_use_is_named_with_its_flag(start_server: Start) -> None:
    first = await start_server()
    with pytest.raises(StartupError, match=f"^--admin-address: cannot listen on {first.address}"):
        await start_server(admin_address=first.address)


async def test_an_open_address_is_warned_about_once(start_server: Start, caplog: pytest.LogCaptureFixture) -> None:
    await start_server(address=Address("0.0.0.0", 0))
    assert [line for line in caplog.messages if "other machines" in line] == [
        "--address 0.0.0.0:0: other machines can reach it without TLS (--tls-certificate, --tls-key) and without"
        " authentication (--token-file or --tls-client-ca); see Security in docs/server-reference.md"
    ]


async def test_refused_calls_are_counted_and_nothing_of_them_is_parsed(start_server: Start, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("secret")
    server = await start_server(token_file=tmp_path / "tokens")
    garbage = b"\xff\xff\xff"
    channel: Any
    async with grpc.aio.insecure_channel(str(server.address)) as channel:
        for path in ("/ganserve.v1.Generator/Generate", "/inference.GRPCInferenceService/ModelInfer"):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await channel.unary_unary(path)(garbage)
            assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
        for path in (
            "/inference.GRPCInferenceService/ModelStreamInfer",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ):
            # Nothing is written: grpc.aio may report a write to a refused call instead of the refusal.
            assert await channel.stream_stream(path)().code() is grpc.StatusCode.UNAUTHENTICATED
    counted = {
        tuple(sample.labels.values()): sample.value
        for family in server.core.metrics.collect()
        for sample in family.samples
        if sample.name == "ganserve_rejections_total"
    }
    assert counted == {("", "", "unauthenticated"): 4}


async def test_a_replaced_token_ends_the_use_of_an_open_stream(start_server: Start, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("secret")
    server = await start_server(token_file=tokens)
    channel: Any
    async with grpc.aio.insecure_channel(str(server.address)) as channel:
        stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(
            metadata=[("authorization", "Bearer secret")]
        )
        await stream.write(b"\xff\xff\xff")
        assert b"not a ModelInferRequest" in await stream.read()
        tokens.write_text("another")
        await stream.write(b"\xff\xff\xff")
        assert b"the token is not valid" in await stream.read()
        await stream.done_writing()
        assert await stream.code() is grpc.StatusCode.OK
