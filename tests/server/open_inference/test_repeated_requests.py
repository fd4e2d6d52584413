from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from server.open_inference.repeated_requests import RepeatedRequests

NAMES = st.sampled_from(["tiny", "", "\x3a\x10other", "z" * 200])


def request_of(model: str, version: str, values: bytes, outputs: list[str]) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model, model_version=version, raw_input_contents=[values])
    request.inputs.add(name="latents", datatype="FP32", shape=[1, 4])
    for output in outputs:
        request.outputs.add(name=output)
    return request


@given(
    model=NAMES,
    version=NAMES,
    outputs=st.lists(NAMES, max_size=2),
    first=st.binary(min_size=16, max_size=16),
    second=st.binary(min_size=16, max_size=16),
)
def test_a_message_that_differs_only_in_its_values_is_found(
    model: str, version: str, outputs: list[str], first: bytes, second: bytes
) -> None:
    repeated: RepeatedRequests[str] = RepeatedRequests()
    earlier = request_of(model, version, first, outputs)
    repeated.remember(earlier.SerializeToString(), earlier, "said")
    assert repeated.find(request_of(model, version, second, outputs).SerializeToString()) == ("said", second)


SAID = st.tuples(NAMES, NAMES, st.lists(NAMES, max_size=2))


@given(first=SAID, second=SAID)
def test_a_message_with_another_head_is_not_found(
    first: tuple[str, str, list[str]], second: tuple[str, str, list[str]]
) -> None:
    repeated: RepeatedRequests[str] = RepeatedRequests()
    values = b"0123456789abcdef"
    earlier, later = (request_of(model, version, values, outputs) for model, version, outputs in (first, second))
    repeated.remember(earlier.SerializeToString(), earlier, "said")
    assert (repeated.find(later.SerializeToString()) is not None) == (first == second)


@given(st.data())
def test_a_found_message_equals_the_parsed_one(data: st.DataObject) -> None:
    """The fields of a message may have any order, and another ending may change its meaning."""
    values = data.draw(st.binary(min_size=1, max_size=12))
    fields = [
        pb.ModelInferRequest(raw_input_contents=[values]).SerializeToString(),
        pb.ModelInferRequest(model_name="tiny").SerializeToString(),
        pb.ModelInferRequest(
            model_version="\x3a" + chr(len(values)) + "abcdefghijkl"[: len(values)]
        ).SerializeToString(),
    ]
    body = b"".join(data.draw(st.permutations(fields)))
    request = pb.ModelInferRequest.FromString(body)
    repeated: RepeatedRequests[pb.ModelInferRequest] = RepeatedRequests()
    said = pb.ModelInferRequest.FromString(body)
    said.ClearField("raw_input_contents")
    repeated.remember(body, request, said)
    ending = data.draw(st.text(st.characters(max_codepoint=127), min_size=len(values), max_size=len(values)))
    later = body[: -len(values)] + ending.encode()
    if (found := repeated.find(later)) is not None:
        admitted, raw = found
        expected = pb.ModelInferRequest.FromString(later)
        assert list(expected.raw_input_contents) == [raw]
        expected.ClearField("raw_input_contents")
        assert admitted == expected


@pytest.mark.parametrize(
    ("changes", "remembered"),
    [({}, True), ({"id": "7"}, False), ({"model_name": "m" * 900}, True), ({"model_name": "m" * 1000}, False)],
)
def test_requests_with_an_id_or_a_long_head_are_not_cached(changes: dict[str, str], remembered: bool) -> None:
    repeated: RepeatedRequests[str] = RepeatedRequests()
    request = request_of("tiny", "", b"0123456789abcdef", [])
    request.MergeFrom(pb.ModelInferRequest(**changes))
    body = request.SerializeToString()
    repeated.remember(body, request, "said")
    assert (repeated.find(body) is not None) == remembered


def test_the_cache_holds_one_message_per_size_and_a_limited_number_of_sizes() -> None:
    repeated: RepeatedRequests[int] = RepeatedRequests()
    bodies = []
    for rows in range(1, 300):
        request = request_of("tiny", "", np.zeros((rows, 4), np.float32).tobytes(), [])
        bodies.append(request.SerializeToString())
        repeated.remember(bodies[-1], request, rows)
    found = [repeated.find(body) for body in bodies]
    assert found[-1] is not None
    assert found[-1][0] == 299
    assert sum(one is not None for one in found) <= 256
