from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2 as pb
from grpc_reflection.v1alpha import reflection_pb2_grpc as pb_grpc

from server.app import Server
from tests.server.fronts.served import FRONTS

Connect = Callable[[Server], grpc.aio.Channel]


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def stub_of(channel: grpc.aio.Channel) -> Any:
    make_stub: Any = pb_grpc.ServerReflectionStub
    return make_stub(channel)


async def test_unknown_symbols_are_answered_and_the_stream_continues(server: Server, connect: Connect) -> None:
    requests = [
        pb.ServerReflectionRequest(file_containing_symbol="other.Service"),
        pb.ServerReflectionRequest(),
        pb.ServerReflectionRequest(file_containing_symbol="inference.GRPCInferenceService"),
    ]
    stream = stub_of(connect(server)).ServerReflectionInfo(iter(requests))
    first, second, third = [answer async for answer in stream]
    assert first.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert second.error_response.error_code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert third.file_descriptor_response.file_descriptor_proto


async def test_a_token_is_needed_like_everywhere(start_server: Any, connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("secret")
    stub = stub_of(connect(await start_server(token_file=tmp_path / "tokens")))
    request = pb.ServerReflectionRequest(list_services="")
    # Nothing is written: grpc.aio may report a write to a refused call instead of the refusal.
    assert "carries no token" in await stub.ServerReflectionInfo().details()
    stream = stub.ServerReflectionInfo(iter([request]), metadata=[("authorization", "Bearer secret")])
    assert (await stream.read()).list_services_response.service
