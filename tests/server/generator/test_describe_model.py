from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from ganserve.bundle import CARD_FILE, ONNX_FILE, TORCHSCRIPT_FILE
from ganserve.v1 import generator_pb2 as pb
from server.app import Server
from tests.server.generator.test_service import stub_of
from tests.server.scheduling.held_run import HeldRun
from tests.server.tiny_bundles import publish_tiny_bundle, publish_tiny_translator

Start = Callable[..., Awaitable[Server]]
Connect = Callable[[Server], grpc.aio.Channel]


async def describe(stub: Any, model: str = "tiny", version: int = 0) -> pb.DescribeModelResponse:
    answer: pb.DescribeModelResponse = await stub.DescribeModel(
        pb.DescribeModelRequest(model=model, version=version), timeout=20
    )
    return answer


async def test_the_card_is_the_published_one(repository: Path, stub: Any) -> None:
    answer = await describe(stub)
    assert json.loads(answer.card) == json.loads((repository / "tiny" / "1" / CARD_FILE).read_bytes())
    assert (answer.precision, answer.ready) == ("fp32", True)


async def test_the_sizes_are_those_of_the_files_that_the_card_lists(repository: Path, stub: Any) -> None:
    folder = repository / "tiny" / "1"
    answer = await describe(stub)
    assert dict(answer.file_bytes) == {
        name: (folder / name).stat().st_size for name in json.loads(answer.card)["files"]
    }
    assert ONNX_FILE in answer.file_bytes
    assert CARD_FILE not in answer.file_bytes


async def test_a_file_that_is_not_in_the_bundle_has_no_size_and_keeps_nothing_from_being_served(
    repository: Path, start_server: Start, connect: Connect
) -> None:
    path = repository / "tiny" / "1" / CARD_FILE
    card = json.loads(path.read_bytes())
    card["files"] |= {TORCHSCRIPT_FILE: "0" * 64, "../../../secret": "0" * 64}
    path.write_text(json.dumps(card))
    (repository.parent / "secret").write_text("of somebody else's")
    answer = await describe(stub_of(connect(await start_server())))
    assert TORCHSCRIPT_FILE in json.loads(answer.card)["files"]
    assert set(answer.file_bytes) == {ONNX_FILE}


async def test_the_model_is_the_one_that_is_listed(repository: Path, start_server: Start, connect: Connect) -> None:
    publish_tiny_translator(repository)
    stub = stub_of(connect(await start_server(max_request_rows=10)))
    listed = (await stub.ListModels(pb.ListModelsRequest())).models
    assert len(listed) == 2
    for model in listed:
        assert (await describe(stub, model.name)).model == model


async def test_the_newest_version_is_described_by_its_number_and_by_zero(
    repository: Path, start_server: Start, connect: Connect
) -> None:
    publish_tiny_bundle(repository, version=2, seed=1)
    stub = stub_of(connect(await start_server()))
    for version in (0, 2):
        answer = await describe(stub, version=version)
        assert (answer.model.version, json.loads(answer.card)["version"]) == (2, 2)


@pytest.mark.parametrize(
    ("model", "version", "message"),
    [
        ("other", 0, "no model 'other' is served: use one of tiny"),
        ("", 0, "model is empty: use one of tiny"),
        ("tiny", 9, "version 9 of 'tiny' is not served: use version 1, or 0 for the newest one"),
        ("tiny", -1, "version -1 of 'tiny' is not served: use version 1, or 0 for the newest one"),
    ],
)
async def test_a_model_that_is_not_served_is_not_found(stub: Any, model: str, version: int, message: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await describe(stub, model, version)
    assert (error.value.code(), error.value.details()) == (grpc.StatusCode.NOT_FOUND, message)


@pytest.mark.parametrize("method", ["DescribeModel", "ListModels"])
async def test_a_request_far_larger_than_names_is_refused_before_it_is_read(
    server: Server, connect: Connect, method: str
) -> None:
    call: Any = connect(server).unary_unary(f"/ganserve.v1.Generator/{method}")
    body = pb.DescribeModelRequest(model="x" * (1 << 20)).SerializeToString()  # to ListModels an unknown field
    with pytest.raises(grpc.aio.AioRpcError, match=rf"and a {method}Request may have 65536: send names only") as error:
        await call(body, timeout=20)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_model_whose_engine_broke_is_described_as_not_ready(
    server: Server, stub: Any, hold: Callable[[Server], HeldRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(server)
    monkeypatch.setattr(server.catalog["tiny"].batcher, "broken", True)
    assert not (await describe(stub)).ready


async def test_requests_are_counted_and_logged_by_model(
    repository: Path, tmp_path: Path, start_server: Start, connect: Connect
) -> None:
    server = await start_server(access_log=str(tmp_path / "access.jsonl"))
    await describe(stub_of(connect(server)))
    await server.close_access_log()
    [line] = [json.loads(text) for text in (tmp_path / "access.jsonl").read_text().splitlines()]
    assert (line["method"], line["model"], line["version"], line["status"]) == ("DescribeModel", "tiny", 1, "OK")
    [sample] = [
        sample
        for metric in server.metrics.collect()
        for sample in metric.samples
        if sample.name == "ganserve_requests_total" and sample.labels["method"] == "DescribeModel"
    ]
    assert (sample.labels["model"], sample.labels["status"], sample.value) == ("tiny", "OK", 1)
