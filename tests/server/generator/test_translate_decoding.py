"""Translate while images are being decoded: overload, deadlines, callers that leave, drains, and hostile files."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ganserve.v1 import generator_pb2 as pb
from server.app import Server
from server.errors import QueueFull
from server.generator import image_reader
from server.generator.images import AdmittedImages
from server.scheduling.batcher import Batcher
from tests.picture_files import encoded, noise
from tests.server.generator.translate_requests import GOOD, INVALID, SIZE, files, refusal, stub_of
from tests.server.scheduling.held_run import until
from tests.server.tiny_bundles import publish_tiny_translator


@pytest.fixture
def repository(repository: Path) -> Path:
    """Holds "tiny" and "tiny-a2b"."""
    publish_tiny_translator(repository)
    return repository


@pytest.fixture
def full_batcher(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(batcher: Batcher, rows: int) -> None:
        raise QueueFull("full")

    monkeypatch.setattr(Batcher, "_check_room", refuse)


class Decoding:
    """Counts the images that are decoded, and holds each up until the test lets it go."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.started = 0
        self._loop = loop
        self._go = asyncio.Event()

    def __call__(self, admitted: AdmittedImages, row: int) -> NDArray[np.uint8]:
        self.started += 1
        asyncio.run_coroutine_threadsafe(self._go.wait(), self._loop).result(timeout=20)
        return np.zeros(admitted.input.row_shape, np.uint8)

    def release_all(self) -> None:
        self._go.set()


@pytest.fixture
async def decoding(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Decoding(asyncio.get_running_loop())
    monkeypatch.setattr(image_reader, "read_row", made)
    yield made
    made.release_all()


@pytest.mark.usefixtures("full_batcher")
async def test_nothing_is_decoded_for_a_queue_that_is_full(stub: Any, decoding: Decoding) -> None:
    assert (await refusal(stub, files(GOOD)))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert decoding.started == 0


async def test_rows_that_are_being_read_are_in_the_queue_already(
    start_server: Any, connect: Any, decoding: Decoding
) -> None:
    server = await start_server(max_queue_rows=3)
    stub = stub_of(connect(server))
    accepted = asyncio.ensure_future(stub.Translate(files(GOOD, GOOD)))
    await until(lambda: decoding.started == 1)
    code, details = await refusal(stub, files(GOOD, GOOD))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "the queue of 'tiny-a2b' is full (2 of 3 rows wait, 2 more do not fit)" in details
    decoding.release_all()
    assert len((await accepted).encoded.data) == 2
    assert len((await stub.Translate(files(GOOD, GOOD, GOOD))).encoded.data) == 3


async def test_a_deadline_that_passes_ends_the_decoding(server: Server, stub: Any, decoding: Decoding) -> None:
    code, _ = await refusal(stub, files(GOOD, GOOD, GOOD), timeout=0.05)
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    decoding.release_all()
    assert await server.drain()
    assert decoding.started <= 1
    assert server.catalog["tiny-a2b"].batcher.queued_rows == 0


async def test_a_call_that_is_cancelled_ends_the_decoding(server: Server, stub: Any, decoding: Decoding) -> None:
    call = stub.Translate(files(GOOD, GOOD, GOOD))
    await until(lambda: decoding.started == 1)
    call.cancel()
    assert await server.drain()  # it has left, although its image is still in hand
    decoding.release_all()
    assert decoding.started == 1


async def test_a_drain_finishes_what_is_being_decoded(server: Server, stub: Any, decoding: Decoding) -> None:
    call = asyncio.ensure_future(stub.Translate(files(GOOD, GOOD)))
    await until(lambda: decoding.started == 1)
    draining = asyncio.create_task(server.drain())
    decoding.release_all()
    assert len((await call).encoded.data) == 2
    assert await draining


async def test_any_bytes_are_answered_or_invalid(stub: Any) -> None:
    good = [GOOD, encoded(noise(*SIZE, 3), "JPEG")]

    @st.composite
    def hostile(draw: st.DrawFn) -> bytes:
        data = bytearray(draw(st.sampled_from([*good, b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b""])))
        for _ in range(draw(st.integers(0, 3))):
            start = draw(st.integers(0, len(data)))
            data[start : start + draw(st.integers(0, 9))] = draw(st.binary(max_size=9))
        return bytes(data)

    requests: list[pb.TranslateRequest] = []

    @settings(max_examples=200, suppress_health_check=list(HealthCheck), database=None)
    @given(st.lists(hostile(), min_size=1, max_size=3), st.booleans())
    def collect(data: list[bytes], resize: bool) -> None:
        requests.append(files(*data, resize=resize))

    collect()
    results: list[Any] = await asyncio.gather(*map(stub.Translate, requests), return_exceptions=True)
    for request, result in zip(requests, results, strict=True):
        if isinstance(result, grpc.aio.AioRpcError):
            assert result.code() is INVALID, (request, result.details())
        else:
            assert len(result.encoded.data) == len(request.encoded.data)
