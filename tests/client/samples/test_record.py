from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.samples.record import SampleRecord

RECORD = SampleRecord("dcgan", 3, 7, 10, 0, 10, "png", 3, 2, 3)


def _parts(count: int) -> st.SearchStrategy[tuple[int, int, int]]:
    """`count` and a range within it."""
    ends = st.tuples(st.integers(0, count - 1), st.integers(1, count)).filter(lambda ends: ends[0] < ends[1])
    return ends.map(lambda ends: (count, *ends))


@given(
    st.builds(
        lambda part, **fields: SampleRecord(count=part[0], first_row=part[1], end_row=part[2], **fields),
        part=st.integers(1, 100_000_000).flatmap(_parts),
        model=st.text("abcdefgä-0", min_size=1),
        version=st.integers(1, 2**63 - 1),
        seed=st.integers(0, 2**64 - 1),
        format=st.sampled_from(["png", "jpeg", "pixels"]),
        height=st.integers(1, 2**20),
        width=st.integers(1, 2**20),
        channels=st.integers(1, 4),
    )
)
def test_a_record_is_read_back_unchanged(record: SampleRecord) -> None:
    assert SampleRecord.from_json(record.to_json()) == record


@pytest.mark.parametrize(
    "change",
    [
        {"version": 0},
        {"version": True},
        {"seed": -1},
        {"seed": 2**64},
        {"count": 10**12},
        {"count": "10"},
        {"first_row": 10},
        {"first_row": -1},
        {"end_row": 11},
        {"end_row": 0},
        {"first_row": 4, "end_row": 4},
        {"channels": 5},
        {"height": 1.5},
        {"model": ""},
        {"model": "a\x1b[2J"},
        {"model": None},
        {"format": "gif"},
        {"format": ["png"]},
        {"more": 1},
        {"ganclient_sample": 2},
    ],
)
def test_an_invalid_record_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^(\w+ (is|has|and end_row are) |another version)"):
        SampleRecord.from_json(json.dumps(json.loads(RECORD.to_json()) | change).encode())


@given(st.binary(max_size=60) | st.just(b"[" * 60_000) | st.just(b" " * 70_000))
def test_any_bytes_are_a_record_or_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^(it|another version)"):
        SampleRecord.from_json(data)


def test_a_record_from_before_samples_had_parts_is_read() -> None:
    fields = json.loads(RECORD.to_json())
    del fields["first_row"], fields["end_row"]
    assert SampleRecord.from_json(json.dumps(fields).encode()) == RECORD


@given(st.integers(1, 30_000).flatmap(_parts), st.data())
def test_names_sort_like_rows_and_folders_stay_small(part: tuple[int, int, int], data: st.DataObject) -> None:
    count, first_row, end_row = part
    record = replace(RECORD, count=count, first_row=first_row, end_row=end_row)
    rows = sorted(data.draw(st.sets(st.integers(first_row, end_row - 1), min_size=1, max_size=20)))
    names = [record.file_name(row) for row in rows]
    assert names == sorted(set(names))
    assert [row for _, covered in record.folders() for row in covered] == list(record.rows)
    for folder, covered in record.folders():
        assert len(covered) <= (1000 if folder else 10_000)
        assert (
            record.file_name(covered[0]).rpartition("/")[0]
            == folder
            == record.file_name(covered[-1]).rpartition("/")[0]
        )


def test_names_are_zero_padded_and_in_sub_folders_for_many_images() -> None:
    assert replace(RECORD, count=10_000).file_name(42) == "00042.png"
    assert replace(RECORD, count=10_001).file_name(1042) == "01/01042.png"
    assert replace(RECORD, count=1_000_000, format="jpeg").file_name(123_456) == "123/123456.jpg"
