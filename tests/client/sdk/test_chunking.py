from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.sdk.chunking import Pace, chunks_of, max_input_bytes
from client.sdk.input_images import MAX_REQUEST_IMAGE_BYTES
from client.sdk.model_info import models_from
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import translator


@given(
    sizes=st.lists(st.integers(0, 20)), max_rows=st.lists(st.integers(1, 5), min_size=1), max_bytes=st.integers(1, 30)
)
def test_chunks_hold_all_items_in_order_within_both_limits(
    sizes: list[int], max_rows: list[int], max_bytes: int
) -> None:
    limits = itertools.cycle(max_rows)
    chunks = list(chunks_of(enumerate(sizes), lambda item: item[1], lambda: next(limits), max_bytes))
    assert [item for chunk in chunks for item in chunk] == list(enumerate(sizes))
    for chunk in chunks:
        assert 1 <= len(chunk) <= max(max_rows)
        assert len(chunk) == 1 or sum(size for _, size in chunk) <= max_bytes


def test_no_more_is_read_than_the_next_chunk_needs() -> None:
    read = []

    def endless() -> Iterator[int]:
        for item in itertools.count():
            read.append(item)
            yield item

    chunks = chunks_of(endless(), lambda _: 1, lambda: 3, 100)
    assert (next(chunks), next(chunks)) == ([0, 1, 2], [3, 4, 5])
    assert len(read) == 6


@given(
    max_rows=st.integers(1, 300),
    row_s=st.floats(1e-6, 100),
    overhead_s=st.floats(0, 0.2),
    timeout_s=st.floats(1, 1000),
)
def test_pace_converges_to_the_target_duration(
    max_rows: int, row_s: float, overhead_s: float, timeout_s: float
) -> None:
    pace = Pace(max_rows, timeout_s)
    for _ in range(20):
        assert 1 <= pace.rows <= max_rows
        pace.answered(pace.rows, overhead_s + pace.rows * row_s)
    took_s = overhead_s + pace.rows * row_s
    comfortable_s = min(2.0, timeout_s / 4)
    assert took_s <= comfortable_s or pace.rows == 1
    assert took_s >= comfortable_s / 2 or pace.rows == max_rows or overhead_s + 2 * pace.rows * row_s > comfortable_s


def test_pace_does_not_grow_after_requests_that_were_not_full() -> None:
    pace = Pace(256, 30)
    pace.answered(1, 0.001)
    assert pace.rows == 4
    pace.answered(4, 0.001)
    assert pace.rows == 8


@pytest.mark.parametrize(("before", "after"), [(1, 1), (4, 2)])
def test_pace_shrinks_after_a_refusal(before: int, after: int) -> None:
    pace = Pace(before, 30)
    assert pace.rows == before
    pace.refused()
    assert pace.rows == after


@pytest.mark.parametrize(("rows", "after"), [(1, 1), (3, 1), (8, 4), (64, 8)])
def test_pace_sends_at_most_half_after_a_missed_deadline(rows: int, after: int) -> None:
    pace = Pace(256, 30)
    pace.answered(4, 0.001)
    assert pace.rows == 8
    pace.missed(rows)
    assert pace.rows == after


@given(st.integers(0, 2**63 - 1))
def test_a_request_stays_below_the_limits_of_server_and_client(max_request_bytes: int) -> None:
    [info] = models_from(pb.ListModelsResponse(models=[translator(max_request_bytes=max_request_bytes)]))
    limit = max_input_bytes(info)
    assert 1 <= limit <= MAX_REQUEST_IMAGE_BYTES
    if max_request_bytes:
        assert limit <= max(1, max_request_bytes)
        assert limit >= min(MAX_REQUEST_IMAGE_BYTES, max_request_bytes * 15 // 16)
    else:
        assert limit == MAX_REQUEST_IMAGE_BYTES
