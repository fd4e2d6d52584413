"""Tests for server.rest.operation."""

from __future__ import annotations

import re

import pytest

from ganserve.v1 import generator_pb2 as pb
from server.errors import InvalidRequest
from server.rest.operation import Operation
from server.rest.parameter import Parameter
from server.rest.reply import Reply

OPERATION = Operation(
    "GET",
    "/m/{model}",
    "/service/method",
    "It.",
    lambda _: (pb.ListModelsRequest(), lambda answer: Reply([answer])),
    [Parameter("model", "Name."), Parameter("n", "Number.", "integer", 64)],
)


def test_values_come_from_the_path_the_query_and_the_defaults() -> None:
    assert OPERATION.values({"model": "tiny"}, [("n", "3")]) == {"model": "tiny", "n": 3}
    assert OPERATION.values({"model": "tiny"}, []) == {"model": "tiny", "n": 64}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ([("m", "3")], "unknown parameter 'm' in the query: use n"),
        ([("model", "other")], "model is sent twice"),
        ([("n", "3"), ("n", "4")], "n is sent twice: send it once"),
        ([("n", "x")], "n is 'x': send a whole number"),
    ],
)
def test_what_it_does_not_take_is_refused(query: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        OPERATION.values({"model": "tiny"}, query)
