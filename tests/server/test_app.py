from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import trustme
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from ganserve.v1 import generator_pb2 as pb
from ganserve.v1.generator_pb2_grpc import GeneratorStub
from server import app
from server.app import Server, start
from server.config import Address, ServerConfig
from server.errors import StartupError
from tests.client.relay import Relay
from tests.server.http.http_calls import request, tls_request
from tests.server.scheduling.held_run import HeldRun, settle, until

Start = Callable[..., Awaitable[Server]]
Connect = Callable[[Server], grpc.aio.Channel]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = ["", "ganserve.v1.Generator"]


def stub_of(channel: grpc.aio.Channel) -> Any:
    make_stub: Any = GeneratorStub
    return make_stub(channel)


def one_row(model: str = "tiny") -> pb.GenerateRequest:
    tensor = pb.Tensor(dtype=pb.DATA_TYPE_FLOAT32, shape=(1, 4), data=np.zeros(4, np.float32).tobytes())
    return pb.GenerateRequest(model=model, latents=tensor)


async def health_of(channel: grpc.aio.Channel, service: str) -> int:
    response = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
    return int(response.status)


async def scrape(server: Server) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    url = f"http://{server.metrics_address}/metrics"
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=10).read().decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


async def test_the_grpc_port_is_closed_until_the_models_are_ready(config: ServerConfig, connect: Connect) -> None:
    server = Server(config)
    try:
        server.reserve()
        assert server.address.port
        await asyncio.to_thread(lambda: urllib.request.urlopen(f"http://{server.metrics_address}/metrics").close())
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((server.address.host, server.address.port))
        await server.core.load()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((server.address.host, server.address.port))
        await server.listen()
        channel = connect(server)
        for service in SERVICES:
            assert await health_of(channel, service) == SERVING
        assert (await stub_of(channel).Generate(one_row())).model == "tiny"
    finally:
        await server.close()


async def test_a_server_that_retires_says_so_and_serves_new_connections(server: Server, connect: Connect) -> None:
    await server.core.retire()
    channel = connect(server)
    for service in SERVICES:
        assert await health_of(channel, service) == NOT_SERVING
    assert (await stub_of(channel).Generate(one_row())).model == "tiny"


async def test_a_drain_answers_requests_that_come_while_others_are_in_progress(
    server: Server, connect: Connect, hold: Callable[[Server], HeldRun]
) -> None:
    held = hold(server)
    long = stub_of(connect(server)).Generate(one_row())
    await held.started()
    draining = asyncio.create_task(server.drain())
    await asyncio.gather(*(settle() for _ in range(20)))
    late = stub_of(connect(server)).Generate(one_row())
    await until(lambda: server.core.catalog["tiny"].batcher.queued_rows == 1)
    assert not draining.done()
    held.release_all()
    assert await draining
    for response in await asyncio.gather(long, late):
        assert response.images.shape[0] == 1


async def test_a_drain_loses_no_call_of_a_burst(server: Server, connect: Connect) -> None:
    # gRPC cancels calls that Python has not picked up when it stops.
    channel = connect(server)
    await channel.channel_ready()
    calls = [stub_of(channel).Generate(one_row()) for _ in range(50)]
    await asyncio.sleep(0)
    assert await server.drain()
    assert [await call.code() for call in calls] == [grpc.StatusCode.OK] * 50


async def test_a_drain_loses_no_answer_that_waits_in_the_kernel_for_a_slow_client(
    start_server: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    # gRPC would close the connection, and the kernel throws unsent bytes away once the client sends another frame.
    monkeypatch.setattr(app, "_PATIENCE_S", 0.5)
    server = await start_server(max_request_rows=8000, max_queue_rows=8000)
    request = pb.GenerateRequest(
        model="tiny", seeded=pb.SeededLatents(count=8000), format=pb.ImageFormat.IMAGE_FORMAT_FLOAT32
    )
    with Relay(server.address.port, delay_s=0.05, buffer_bytes=1 << 16).serve() as relay:
        async with grpc.aio.insecure_channel(relay.address) as channel:
            call = stub_of(channel).Generate(request)
            await until(lambda: server.core.gate.entered == 1 and not server.core.gate.inside)
            assert await server.drain()
            await server.close()
            assert await stub_of(channel).Generate(one_row()).code() == grpc.StatusCode.UNAVAILABLE  # sends a frame
            assert (await call).images.shape[0] == 8000


async def test_a_drain_accepts_no_call_once_requests_keep_coming_and_finishes_accepted_ones(
    server: Server, connect: Connect, hold: Callable[[Server], HeldRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_PATIENCE_S", 0.0)
    held, channel = hold(server), connect(server)
    stub = stub_of(channel)
    accepted = [stub.Generate(one_row())]
    await held.started()
    accepted.append(stub.Generate(one_row()))  # waits in the queue
    await until(lambda: server.core.catalog["tiny"].batcher.queued_rows == 1)
    draining = asyncio.create_task(server.drain())
    await until(lambda: server.core.gate.state == "draining")
    await settle()  # now gRPC knows
    with pytest.raises(grpc.aio.AioRpcError) as error:  # CANCELLED until the channel has heard GOAWAY
        await stub.Generate(one_row())
    assert error.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert not draining.done()
    held.release_all()
    assert await draining
    for response in await asyncio.gather(*accepted):
        assert response.images.shape[0] == 1


async def test_a_drain_waits_for_a_message_that_is_still_on_its_way(
    start_server: Start, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    # gRPC has accepted the call, but the message is complete only after the drain has begun.
    server = await start_server()
    monkeypatch.setattr(app, "_PATIENCE_S", 20.0)
    generate: Any = connect(server).stream_unary("/ganserve.v1.Generator/Generate")
    call = generate()
    await call.wait_for_connection()
    health = health_pb2_grpc.HealthStub(connect(server))
    assert (await health.Check(health_pb2.HealthCheckRequest(service=""))).status == SERVING

    async def stop() -> None:
        assert await server.drain()
        await server.close()

    stopping = asyncio.create_task(stop())
    await asyncio.gather(*(settle() for _ in range(20)))
    assert not stopping.done()
    await call.write(one_row().SerializeToString())
    await call.done_writing()
    assert pb.GenerateResponse.FromString(await call).model == "tiny"
    await stopping


async def test_an_idle_server_drains_immediately(start_server: Start) -> None:
    assert await (await start_server(drain_timeout_s=0.0)).drain()


async def test_watchers_of_health_hear_of_a_drain_and_do_not_delay_it(
    server: Server, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_PATIENCE_S", 1000.0)
    watches = [
        health_pb2_grpc.HealthStub(connect(server)).Watch(health_pb2.HealthCheckRequest(service="")) for _ in range(2)
    ]
    for watch in watches:
        assert (await watch.read()).status == SERVING
    assert await server.drain()
    for watch in watches:
        assert (await watch.read()).status == NOT_SERVING
        assert await watch.read() == grpc.aio.EOF


async def test_a_drain_ends_at_its_timeout(
    start_server: Start, connect: Connect, hold: Callable[[Server], HeldRun], caplog: pytest.LogCaptureFixture
) -> None:
    server = await start_server(drain_timeout_s=0.01)
    held = hold(server)
    stuck = stub_of(connect(server)).Generate(one_row())
    await held.started()
    with caplog.at_level(logging.WARNING):
        assert not await server.drain()
    assert "the drain timeout has passed: 1 requests are cut off" in caplog.messages
    held.release_all()
    await stuck


async def test_reflection_names_the_services_and_describes_them(server: Server, connect: Connect) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(connect(server))
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="ganserve.v1.Generator"),
    ]
    listed, described = [response async for response in stub.ServerReflectionInfo(iter(requests))]
    assert {service.name for service in listed.list_services_response.service} == {
        "ganserve.v1.Generator",
        "ganserve.v1.ModelControl",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        "inference.GRPCInferenceService",
    }
    files = [FileDescriptorProto.FromString(file) for file in described.file_descriptor_response.file_descriptor_proto]
    assert "ganserve/v1/generator.proto" in [file.name for file in files]


async def test_metrics_count_requests_rows_and_batches(server: Server, connect: Connect) -> None:
    stub = stub_of(connect(server))
    seeded = pb.SeededLatents(seed=1, count=100)
    await stub.Generate(pb.GenerateRequest(model="tiny", seeded=seeded))
    await stub.ListModels(pb.ListModelsRequest())
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.Generate(pb.GenerateRequest(model="tiny"))
    metrics = await scrape(server)
    tiny = {"model": "tiny", "version": "1"}
    request = {**tiny, "method": "Generate"}
    assert metrics[key("ganserve_requests_total", **request, status="OK")] == 1
    assert metrics[key("ganserve_requests_total", **request, status="INVALID_ARGUMENT")] == 1
    assert metrics[key("ganserve_requests_total", model="", version="", method="ListModels", status="OK")] == 1
    assert metrics[key("ganserve_request_duration_seconds_count", **request)] == 2
    for phase, count in {"admission": 1, "queue": 1, "compute": 2, "encode": 1}.items():
        assert metrics[key("ganserve_phase_duration_seconds_count", **tiny, phase=phase)] == count
    assert metrics[key("ganserve_batch_rows_sum", **tiny)] == 100
    assert metrics[key("ganserve_batch_rows_bucket", **tiny, le="64.0")] == 2
    assert metrics[key("ganserve_batch_rows_bucket", **tiny, le="32.0")] == 0
    assert metrics[key("ganserve_rows_total", **tiny)] == 100
    assert metrics[key("ganserve_queue_rows", **tiny)] == 0
    assert metrics[key("ganserve_model_info", **tiny, backend="onnx", device="cpu", precision="fp32")] == 1


async def test_unknown_model_names_never_become_labels(server: Server, connect: Connect) -> None:
    stub = stub_of(connect(server))
    for number in range(3):
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Generate(one_row(f"made-up-{number}"))
    metrics = await scrape(server)
    assert metrics[key("ganserve_requests_total", model="", version="", method="Generate", status="NOT_FOUND")] == 3
    assert not any("made-up" in value for _, labels in metrics for _, value in labels)


async def test_a_cancelled_call_is_counted_as_cancelled(
    server: Server, connect: Connect, hold: Callable[[Server], HeldRun]
) -> None:
    held = hold(server)
    call = stub_of(connect(server)).Generate(one_row())
    await held.started()
    call.cancel()
    cancelled = key("ganserve_requests_total", model="tiny", version="1", method="Generate", status="CANCELLED")
    for _ in range(1000):  # the server sees it a moment later
        if cancelled in await scrape(server):
            break
    held.release_all()
    assert await server.drain()
    assert (await scrape(server))[cancelled] == 1


async def test_two_servers_in_one_process_do_not_share_metrics(start_server: Start, connect: Connect) -> None:
    first, second = await start_server(), await start_server()
    await stub_of(connect(first)).Generate(one_row())
    assert key("ganserve_rows_total", model="tiny", version="1") in await scrape(first)
    assert key("ganserve_rows_total", model="tiny", version="1") not in await scrape(second)


async def http_status(server: Server, path: str) -> tuple[int, str]:
    assert server.metrics_address is not None
    reply = await asyncio.to_thread(request, server.metrics_address, path)
    return reply.status, reply.body.decode()


async def test_the_http_port_tells_starting_ready_and_draining(config: ServerConfig) -> None:
    server = Server(config)
    try:
        server.reserve()
        assert await http_status(server, "/healthz") == (200, "alive\n")
        assert await http_status(server, "/readyz") == (503, "starting\n")
        assert (await scrape(server))[key("ganserve_accepting_requests")] == 0
        await server.core.load()
        await server.listen()
        assert await http_status(server, "/readyz") == (200, "ready\n")
        assert (await scrape(server))[key("ganserve_model_ready", model="tiny", version="1")] == 1
        assert await server.drain()
        assert await http_status(server, "/healthz") == (200, "alive\n")
        assert await http_status(server, "/readyz") == (503, "draining\n")
        assert (await scrape(server))[key("ganserve_model_ready", model="tiny", version="1")] == 0
    finally:
        await server.close()


async def test_the_http_port_has_the_certificate_of_the_server(start_server: Start, tmp_path: Path) -> None:
    authority, client_tls = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(client_tls)
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(str(tmp_path / "key"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "certificate"))
    server = await start_server(tls_certificate=tmp_path / "certificate", tls_key=tmp_path / "key")
    assert server.metrics_address is not None
    assert server.http_url == f"https://{server.metrics_address}"
    assert (await asyncio.to_thread(tls_request, server.metrics_address, "/readyz", client_tls)).status == 200


async def test_without_an_http_address_no_http_port_is_open(start_server: Start, connect: Connect) -> None:
    server = await start_server(metrics_address=None)
    assert (server.metrics_address, server.http_url) == (None, None)
    assert "http" not in {thread.name for thread in threading.enumerate()}
    assert (await stub_of(connect(server)).Generate(one_row())).model == "tiny"


@pytest.mark.parametrize(("flag", "field"), [("--address", "address"), ("--metrics-address", "metrics_address")])
async def test_an_address_in_use_is_named_with_its_flag(config: ServerConfig, flag: str, field: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        changes: dict[str, Any] = {field: address}
        with pytest.raises(StartupError, match=f"^{flag}: cannot listen on {address} .*in use.*another address$"):
            await start(replace(config, **changes))


async def test_a_second_server_cannot_share_the_port_of_the_first(config: ServerConfig, server: Server) -> None:
    with pytest.raises(StartupError, match="--address: cannot listen on"):
        await start(replace(config, address=server.address))


async def test_a_start_says_that_the_memory_of_the_container_is_too_small(
    start_server: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("server.core.memory_limit_bytes", lambda: 1 << 30)
    with caplog.at_level(logging.WARNING):
        await start_server()
    assert "this container may use 1024 MiB of memory" in caplog.text


async def test_an_address_that_is_taken_while_the_models_load_is_named(config: ServerConfig) -> None:
    first, second = Server(config), Server(config)
    try:
        first.reserve()
        second.config = replace(config, address=first.address)
        second.reserve()
        await first.listen()
        with pytest.raises(StartupError, match=r"^--address: cannot listen on .*in use.*another address$"):
            await second.listen()
    finally:
        await first.close()
        await second.close()


async def test_a_failed_start_leaves_no_port_open(config: ServerConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Server] = []

    class Noted(Server):
        def __init__(self, config: ServerConfig) -> None:
            super().__init__(config)
            made.append(self)

    monkeypatch.setattr(app, "Server", Noted)
    with pytest.raises(StartupError, match="--models: no model repository"):
        await start(replace(config, models=config.models / "nowhere"))
    for address in (made[0].address, made[0].metrics_address):
        assert address is not None
        assert address.port
        socket.create_server((address.host, address.port)).close()
