from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from server.config import ServerConfig
from server.limits import Contract, contract_of
from server.open_inference.messages import sent_inference, serialize_inference, stream_error
from tests.server.open_inference.inference_requests import infer_request, parameter, requested
from tests.server.tiny_cards import GENERATOR, TRANSLATOR, translator_of

CARDS = [GENERATOR, TRANSLATOR, translator_of(1, 1, 1), translator_of(3, 40, 50)]
ORDERS = [("images",), ("pixels",), ("images", "pixels"), ("pixels", "images")]


def random_arrays(contract: Contract, rows: int, seed: int) -> dict[str, Any]:
    """Arrays of random bytes; floats may have any value."""
    generator = np.random.default_rng(seed)
    return {
        name: np.frombuffer(generator.bytes(rows * tensor.row_bytes), tensor.dtype).reshape(rows, *tensor.row_shape)
        for name, tensor in contract.outputs.items()
    }


def plain_response(contract: Contract, arrays: dict[str, Any], outputs: tuple[str, ...], request_id: str) -> Any:
    """The answer that protobuf itself makes."""
    response = pb.ModelInferResponse(
        model_name=contract.card.name, model_version=str(contract.card.version), id=request_id
    )
    for name in outputs:
        response.outputs.add(name=name, datatype=contract.outputs[name].datatype, shape=arrays[name].shape)
        response.raw_output_contents.append(arrays[name].tobytes())
    return response


@given(
    st.sampled_from(CARDS),
    st.integers(1, 70),
    st.sampled_from(ORDERS),
    st.text(st.characters(codec="utf-8"), max_size=256),
    st.booleans(),
    st.booleans(),
)
def test_a_serialised_answer_equals_the_one_that_protobuf_makes(
    card: Any, rows: int, outputs: tuple[str, ...], request_id: str, streamed: bool, says_final: bool
) -> None:
    contract = contract_of(card, ServerConfig())
    arrays = random_arrays(contract, rows, seed=rows)
    expected = plain_response(contract, arrays, outputs, request_id)
    if says_final:
        expected.parameters["triton_final_response"].bool_param = True
    for _ in range(2):  # new, and cached
        answer = serialize_inference(
            contract, arrays, outputs, rows, request_id, streamed=streamed, says_final=says_final
        )
        if streamed:
            assert pb.ModelStreamInferResponse.FromString(answer) == pb.ModelStreamInferResponse(
                infer_response=expected
            )
        else:
            assert pb.ModelInferResponse.FromString(answer) == expected


def test_noncontiguous_arrays_are_sent_in_order() -> None:
    contract = contract_of(GENERATOR, ServerConfig())
    pixels = np.arange(2 * 3 * 4 * 6, dtype=np.uint8).reshape(2, 3, 4, 6).transpose(0, 2, 3, 1)
    answer = serialize_inference(contract, {"pixels": pixels}, ("pixels",), 2, "")
    assert pb.ModelInferResponse.FromString(answer).raw_output_contents == [pixels.tobytes()]


def test_an_array_of_the_wrong_size_is_never_sent() -> None:
    contract = contract_of(GENERATOR, ServerConfig())
    with pytest.raises(RuntimeError, match="pixels has 72 bytes, and 2 rows of it need 144"):
        serialize_inference(contract, {"pixels": np.zeros((1, 4, 6, 3), np.uint8)}, ("pixels",), 2, "")


def test_a_request_is_converted_to_plain_values() -> None:
    latents = np.ones((2, 4), np.float32)
    request = infer_request(
        latents,
        id="7",
        outputs=requested("pixels"),
        parameters={"a": parameter(True), "b": parameter(2), "c": parameter(0.5), "d": parameter("x")},
    )
    request.parameters["e"].uint64_param = 2**64 - 1
    request.parameters["f"].SetInParent()
    sent = sent_inference(request)
    assert (sent.request_id, sent.input_count, sent.name, sent.datatype) == ("7", 1, "latents", "FP32")
    assert (sent.shape, list(sent.raw), dict(sent.typed)) == ((2, 4), [latents.tobytes()], {})
    assert [name for name, _ in sent.outputs] == ["pixels"]
    assert dict(sent.parameters) == {"a": True, "b": 2, "c": 0.5, "d": "x", "e": 2**64 - 1, "f": None}


def test_typed_contents_are_keyed_by_field_name() -> None:
    request = infer_request(np.ones((1, 4), np.float32), raw_input_contents=[])
    request.inputs[0].contents.fp32_contents.extend([1.0, 2.0])
    request.inputs[0].contents.bytes_contents.append(b"x")
    typed = sent_inference(request).typed
    assert {name: list(values) for name, values in typed.items()} == {
        "fp32_contents": [1.0, 2.0],
        "bytes_contents": [b"x"],
    }


def test_a_hostile_request_is_read_only_as_far_as_needed_to_refuse_it() -> None:
    request = infer_request(np.ones((1, 4), np.float32), outputs=requested(*["pixels"] * 1000))
    request.inputs[0].shape.extend([1] * 10_000)
    for number in range(1000):
        request.parameters[str(number)].bool_param = True
    sent = sent_inference(request)
    assert (len(sent.shape), len(sent.outputs), len(sent.parameters)) == (5, 3, 16)


def test_an_empty_request_is_converted() -> None:
    sent = sent_inference(pb.ModelInferRequest())
    assert (sent.input_count, sent.name, sent.shape, len(sent.raw)) == (0, "", (), 0)


def test_a_stream_error_carries_the_id_of_its_request() -> None:
    response = pb.ModelStreamInferResponse.FromString(stream_error("no such model", "7"))
    assert (response.error_message, response.infer_response.id) == ("no such model", "7")
