from __future__ import annotations

import asyncio
import dataclasses

import grpc
import pytest

from client.bench.requests import Sender, check_rows, requests_of
from client.bench.results import OK, WRONG_ANSWER
from client.errors import InvalidRequest
from client.sdk.channel import endpoint_of
from client.sdk.model_info import models_from
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import FakeServer, model, translator

GENERATOR, TRANSLATOR = models_from(pb.ListModelsResponse(models=[model(max_request_rows=8), translator()]))


def test_rows_per_request_respect_the_servers_limit() -> None:
    check_rows(GENERATOR, 8)
    with pytest.raises(InvalidRequest, match=r"^--rows: at most 8 rows per request for 'dcgan', not 9"):
        check_rows(GENERATOR, 9)
    with pytest.raises(InvalidRequest, match="--rows: at most 1 row per request"):
        check_rows(dataclasses.replace(TRANSLATOR, max_request_bytes=1), 2)


def test_requests_differ_and_are_deterministic() -> None:
    for served in (GENERATOR, TRANSLATOR):
        requests = requests_of(served, 2, "pixels")
        assert len({request.SerializeToString() for request in requests}) == len(requests) == 16
        assert list(requests) == list(requests_of(served, 2, "pixels"))
    [first, *_] = requests_of(GENERATOR, 2, "png")
    assert isinstance(first, pb.GenerateRequest)
    assert list(first.latents.shape) == [2, 6]


def statuses(server: FakeServer, rows: int, count: int) -> tuple[list[str], dict[str, str]]:
    async def work() -> tuple[list[str], dict[str, str]]:
        sender = Sender(endpoint_of(server.address), requests_of(GENERATOR, 2, "pixels"), rows)
        try:
            found = [await sender.send(number) for number in range(count)]
        finally:
            await sender.close()
        return found, {status: str(error) for status, error in sender.first_errors.items()}

    return asyncio.run(work())


def test_an_error_is_a_status_and_the_first_of_each_kind_is_kept(server: FakeServer) -> None:
    server.failures.extend([(grpc.StatusCode.INTERNAL, "first"), (grpc.StatusCode.INTERNAL, "second")])
    found, errors = statuses(server, 2, 3)
    assert found == ["INTERNAL", "INTERNAL", OK]
    assert list(errors) == ["INTERNAL"]
    assert "first" in errors["INTERNAL"]


def test_a_response_with_another_number_of_images_is_wrong(server: FakeServer) -> None:
    found, errors = statuses(server, 3, 1)
    assert found == [WRONG_ANSWER]
    assert "holds 2 images for 3 rows" in errors[WRONG_ANSWER]
