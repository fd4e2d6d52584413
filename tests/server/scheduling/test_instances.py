from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.scheduling.instances import GroupLimits, Instance, InstanceGroups
from tests.server.scheduling.held_run import answers


def instances(number: int, max_rows: int = 8) -> list[Instance]:
    return [Instance("narrow", answers, max_rows=max_rows) for _ in range(number)]


def exclusive(group: str, cores: int = 2) -> Instance:
    return Instance(group, answers, cores=cores, max_rows=8)


def test_a_lone_small_request_gets_all_cores_exclusively() -> None:
    wide = exclusive("wide")
    groups = InstanceGroups(instances(2), wide=wide, limits=GroupLimits(wide_rows=1))
    assert [(share.instance.group, share.rows) for share in groups.take(1, lone=True)] == [("wide", 1)]
    assert groups.take(1) == []
    groups.give_back(wide)
    assert groups.free


def test_a_busy_model_computes_small_requests_in_parallel() -> None:
    groups = InstanceGroups(instances(2), wide=exclusive("wide"), limits=GroupLimits(wide_rows=2))
    assert [share.rows for share in groups.take(4)] == [2, 2]
    assert groups.take(1) == []


def test_a_lone_large_request_is_split_evenly_among_all_instances() -> None:
    assert [share.rows for share in InstanceGroups(instances(3)).take(10)] == [4, 3, 3]


def test_requests_are_not_split_into_pieces_too_small_for_a_thread() -> None:
    groups = InstanceGroups(instances(2), limits=GroupLimits(min_share_rows=4))
    assert [share.rows for share in groups.take(7)] == [7]


def test_tiny_batches_run_on_the_event_loop() -> None:
    groups = InstanceGroups(instances(2), limits=GroupLimits(inline_rows=3))
    assert [share.inline for share in groups.take(3)] == [True]
    assert [share.inline for share in groups.take(4)] == [False]


def test_large_batches_run_on_the_reduced_precision_counterpart() -> None:
    groups = InstanceGroups(instances(2))
    groups.add_large([Instance("bf16", answers, max_rows=16) for _ in range(2)], 4)
    first, second = groups.take(9)
    assert [(share.instance.group, share.rows) for share in (first, second)] == [("bf16", 5), ("bf16", 4)]
    assert not groups.free
    groups.give_back(first.instance)
    assert [(share.instance.group, share.rows) for share in groups.take(3)] == [("narrow", 3)]
    assert groups.take(1) == []
    groups.give_back(second.instance)
    assert [(share.instance.group, share.rows) for share in groups.take(100)] == [("bf16", 16)]


@pytest.mark.parametrize(("rows", "lone", "inline"), [(1, True, True), (1, False, False), (2, True, False)])
@pytest.mark.parametrize("wide", [True, False])
def test_a_quick_batch_of_a_lone_client_runs_on_the_event_loop(rows: int, lone: bool, inline: bool, wide: bool) -> None:
    narrow, over_all = instances(2), exclusive("wide")
    for instance in (*narrow, over_all):
        instance.quick_rows = 1
    groups = InstanceGroups(narrow, wide=over_all if wide else None, limits=GroupLimits(wide_rows=2))
    share, *_ = groups.take(rows, lone=lone)
    assert share.inline == inline
    assert share.instance.group == ("wide" if wide and lone else "narrow")


@pytest.mark.parametrize("rows", [9, 100])
def test_no_instance_gets_more_than_its_maximum_rows(rows: int) -> None:
    assert [share.rows for share in InstanceGroups(instances(1)).take(rows)] == [8]


@given(
    number=st.integers(1, 5),
    wide=st.booleans(),
    large_rows=st.none() | st.integers(1, 9),
    limits=st.builds(
        GroupLimits,
        inline_rows=st.integers(0, 9),
        min_share_rows=st.integers(1, 9),
        wide_rows=st.integers(0, 9),
    ),
    steps=st.lists(st.integers(0, 40), max_size=30),
)
def test_instances_are_never_taken_twice_or_lost(
    number: int, wide: bool, large_rows: int | None, limits: GroupLimits, steps: list[int]
) -> None:
    groups = InstanceGroups(instances(number), wide=exclusive("wide") if wide else None, limits=limits)
    if large_rows is not None:
        groups.add_large([Instance("bf16", answers, max_rows=12) for _ in range(number)], large_rows)
    taken: list[Instance] = []
    for rows in steps:
        if rows == 0 and taken:
            groups.give_back(taken.pop(0))
        elif rows:
            shares = groups.take(rows)
            assert sum(share.rows for share in shares) <= rows
            assert all(1 <= share.rows <= share.instance.max_rows for share in shares)
            taken += [share.instance for share in shares]
            assert len(set(map(id, taken))) == len(taken) <= number
            if any(instance.group == "wide" for instance in taken):
                assert len(taken) == 1
    for instance in taken:
        groups.give_back(instance)
    assert groups.free
    assert groups.take(1)
