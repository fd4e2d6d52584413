from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.scheduling.instances import LaneLimits, Lanes, Seat
from tests.server.scheduling.held_run import answers


def seats(number: int, max_rows: int = 8) -> list[Seat]:
    return [Seat("narrow", answers, max_rows=max_rows) for _ in range(number)]


def exclusive(lane: str, cores: int = 2) -> Seat:
    return Seat(lane, answers, cores=cores, max_rows=8)


def test_a_lone_small_request_gets_all_cores_and_has_them_alone() -> None:
    wide = exclusive("wide")
    lanes = Lanes(seats(2), wide=wide, limits=LaneLimits(wide_rows=1))
    assert [(share.seat.lane, share.rows) for share in lanes.take(1, lone=True)] == [("wide", 1)]
    assert lanes.take(1) == []
    lanes.give_back(wide)
    assert lanes.free


def test_a_busy_model_computes_small_requests_side_by_side() -> None:
    lanes = Lanes(seats(2), wide=exclusive("wide"), limits=LaneLimits(wide_rows=2))
    assert [share.rows for share in lanes.take(4)] == [2, 2]
    assert lanes.take(1) == []


def test_a_lone_large_request_is_shared_out_evenly_among_all_seats() -> None:
    assert [share.rows for share in Lanes(seats(3)).take(10)] == [4, 3, 3]


def test_pieces_that_are_not_worth_a_thread_are_not_cut() -> None:
    lanes = Lanes(seats(2), limits=LaneLimits(min_share_rows=4))
    assert [share.rows for share in lanes.take(7)] == [7]


def test_tiny_batches_are_run_on_the_event_loop() -> None:
    lanes = Lanes(seats(2), limits=LaneLimits(inline_rows=3))
    assert [share.inline for share in lanes.take(3)] == [True]
    assert [share.inline for share in lanes.take(4)] == [False]


def test_large_batches_are_computed_in_reduced_precision_in_place_of_a_narrow_seat() -> None:
    lanes = Lanes(seats(2), limits=LaneLimits(large_rows=4))
    lanes.add_large([Seat("bf16", answers, max_rows=16) for _ in range(2)])
    first, second = lanes.take(9)
    assert [(share.seat.lane, share.rows) for share in (first, second)] == [("bf16", 5), ("bf16", 4)]
    assert not lanes.free
    lanes.give_back(first.seat)
    assert [(share.seat.lane, share.rows) for share in lanes.take(3)] == [("narrow", 3)]
    assert lanes.take(1) == []
    lanes.give_back(second.seat)
    assert [(share.seat.lane, share.rows) for share in lanes.take(100)] == [("bf16", 16)]


@pytest.mark.parametrize(("rows", "lone", "inline"), [(1, True, True), (1, False, False), (2, True, False)])
@pytest.mark.parametrize("wide", [True, False])
def test_the_quick_batch_of_a_lone_caller_is_run_on_the_event_loop(
    rows: int, lone: bool, inline: bool, wide: bool
) -> None:
    narrow, over_all = seats(2), exclusive("wide")
    for seat in (*narrow, over_all):
        seat.quick_rows = 1
    lanes = Lanes(narrow, wide=over_all if wide else None, limits=LaneLimits(wide_rows=2))
    share, *_ = lanes.take(rows, lone=lone)
    assert share.inline == inline
    assert share.seat.lane == ("wide" if wide and lone else "narrow")


@pytest.mark.parametrize("rows", [9, 100])
def test_no_seat_gets_more_than_it_holds(rows: int) -> None:
    assert [share.rows for share in Lanes(seats(1)).take(rows)] == [8]


@given(
    number=st.integers(1, 5),
    wide=st.booleans(),
    large=st.booleans(),
    limits=st.builds(
        LaneLimits,
        inline_rows=st.integers(0, 9),
        min_share_rows=st.integers(1, 9),
        wide_rows=st.integers(0, 9),
        large_rows=st.integers(1, 9),
    ),
    steps=st.lists(st.integers(0, 40), max_size=30),
)
def test_seats_are_never_given_twice_and_never_lost(
    number: int, wide: bool, large: bool, limits: LaneLimits, steps: list[int]
) -> None:
    lanes = Lanes(seats(number), wide=exclusive("wide") if wide else None, limits=limits)
    if large:
        lanes.add_large([Seat("bf16", answers, max_rows=12) for _ in range(number)])
    taken: list[Seat] = []
    for rows in steps:
        if rows == 0 and taken:
            lanes.give_back(taken.pop(0))
        elif rows:
            shares = lanes.take(rows)
            assert sum(share.rows for share in shares) <= rows
            assert all(1 <= share.rows <= share.seat.max_rows for share in shares)
            taken += [share.seat for share in shares]
            assert len(set(map(id, taken))) == len(taken) <= number
            if any(seat.lane == "wide" for seat in taken):
                assert len(taken) == 1
    for seat in taken:
        lanes.give_back(seat)
    assert lanes.free
    assert lanes.take(1)
