"""Requests in flight when a call fails or its client is closed."""

from __future__ import annotations

import contextlib
import gc
import threading
from concurrent import futures

import grpc
import pytest

from client import GanClient, InvalidRequest, ServerFault
from ganserve.latents import latents_from_seed
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import FakeServer

Code = grpc.StatusCode


def alive(kind: type) -> int:
    """The number of objects of a class in this process."""
    gc.collect()
    return sum(kind in type(found).__mro__ for found in gc.get_objects())


def test_an_error_ends_the_call_and_cancels_requests_in_flight(server: FakeServer, wide: GanClient) -> None:
    cancelled = threading.Semaphore(0)
    held = threading.Event()
    others_came = threading.Event()
    second = latents_from_seed(0, 257, 6)[256].tobytes()

    def generate(request: pb.GenerateRequest, context: grpc.ServicerContext) -> pb.GenerateResponse:
        server.requests.append(request)
        if request.latents.data.startswith(second):
            others_came.wait(timeout=20)
            context.abort(Code.INTERNAL, "broken")
        if request.version:
            context.add_callback(cancelled.release)
            others_came.set()
            held.wait(timeout=20)
        return server.images_for(request)

    server.generate_answer = generate
    with pytest.raises(ServerFault, match="broken"):
        wide.generate("dcgan", seed=0, count=256 * 9)
    assert cancelled.acquire(timeout=20)
    held.set()
    server.generate_answer = None
    assert len(wide.generate("dcgan", seed=0, count=256 * 9)) == 256 * 9


def test_no_thread_is_left_after_the_client_is_closed(server: FakeServer) -> None:
    before = set(threading.enumerate())
    with GanClient(server.address, channels=4) as client:
        client.generate("dcgan", seed=0, count=3000)
        chunks = client.generate_chunks("dcgan", seed=0, count=3000)
        next(chunks)
        del chunks
    for thread in set(threading.enumerate()) - before:
        if "grpc" in thread.name or "channel" in thread.name:
            thread.join(timeout=20)
            assert not thread.is_alive(), thread


@pytest.mark.parametrize("channels", [1, 3])
def test_closing_the_client_ends_a_call_in_another_thread(server: FakeServer, channels: int) -> None:
    server.released.clear()
    with futures.ThreadPoolExecutor(1) as pool, GanClient(server.address, timeout_s=20, channels=channels) as client:
        call = pool.submit(client.generate, "dcgan", seed=0, count=3000)
        assert server.received.wait(timeout=20)
        client.close()
        with pytest.raises(InvalidRequest, match="this client is closed"):
            call.result(timeout=20)


def test_refused_requests_are_released(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.sdk.calls.BUSY_PAUSES_S", (0.0,) * 20)
    with (
        GanClient(server.address, timeout_s=20, channels=2) as client,
        contextlib.closing(client.generate_chunks("dcgan", seed=0, count=256 * 9)) as chunks,
    ):
        next(chunks)
        server.failures.extend([(Code.RESOURCE_EXHAUSTED, "the queue is full")] * 15)
        next(chunks)  # perhaps answered before the queue was full
        next(chunks)
        next(chunks)
        assert alive(grpc.Future) <= 4  # two in flight, and the ones answered last
