from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from benchmarks.peers.served_graph import ServedGraph
from benchmarks.peers.wire import (
    OpenInference,
    RawHttp,
    WrongAnswerError,
    check_images,
    checked_rows,
    connections_for,
)


def test_a_request_names_the_model_the_latents_and_the_images(tiny_graph: ServedGraph) -> None:
    request = service_pb2.ModelInferRequest.FromString(OpenInference().message(tiny_graph, 3))
    assert request.model_name == "tiny"
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in request.inputs] == [
        ("latents", "FP32", [3, 8])
    ]
    assert [tensor.name for tensor in request.outputs] == ["images"]
    assert request.raw_input_contents[0] == tiny_graph.latents(3).tobytes()


def test_a_grpc_body_is_a_frame() -> None:
    assert OpenInference().body(b"x" * 300) == b"\0\0\0\x01\x2c" + b"x" * 300


def test_an_http_body_is_the_message() -> None:
    assert RawHttp("/inference").body(b"xyz") == b"xyz"


def floats(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def answer(name: str = "images", datatype: str = "FP32", contents: int = 1) -> bytes:
    response = service_pb2.ModelInferResponse()
    response.outputs.add(name=name, datatype=datatype)
    response.raw_output_contents.extend([floats(1, 2).tobytes()] * contents)
    serialized: bytes = response.SerializeToString()
    return serialized


def test_images_are_decoded_from_an_answer() -> None:
    assert OpenInference().images(answer()).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "wrong", [answer(name="pixels"), answer(datatype="UINT8"), answer(contents=0), answer(contents=2)]
)
def test_an_answer_without_images_is_wrong(wrong: bytes) -> None:
    with pytest.raises(WrongAnswerError):
        OpenInference().images(wrong)


def test_http_bytes_that_are_not_floats_are_wrong() -> None:
    with pytest.raises(WrongAnswerError):
        RawHttp("/inference").images(b"12345")


@pytest.mark.parametrize(("concurrency", "connections"), [(1, 1), (4, 4), (8, 8), (12, 6), (32, 8), (128, 8), (17, 1)])
def test_connections_share_the_requests_evenly(concurrency: int, connections: int) -> None:
    assert connections_for(concurrency) == connections
    flags = OpenInference().load_flags(concurrency)
    assert flags[:4] == ["-c", str(connections), "-m", str(concurrency // connections)]


def test_images_are_compared_by_the_largest_expected_value() -> None:
    expected = floats(2, -4)[None]
    assert check_images(floats(2, -4.002), expected, 1e-3) == pytest.approx(5e-4, rel=1e-2)


@pytest.mark.parametrize("got", [[2.0, -4.1], [2.0, float("nan")], [2.0], [2.0, -4.0, 0.0]])
def test_other_images_are_wrong(got: list[float]) -> None:
    with pytest.raises(WrongAnswerError):
        check_images(floats(*got), floats(2, -4)[None], 1e-3)


def test_1_and_64_rows_are_always_checked() -> None:
    assert checked_rows([8, 1]) == [1, 8, 64]
