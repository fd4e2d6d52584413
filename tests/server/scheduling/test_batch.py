from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from server.scheduling.batch import run_batch
from server.scheduling.instances import Instance
from server.scheduling.queue import Entry, Part
from tests.server.scheduling.held_run import IMAGES, PIXELS, answers, rows_of


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


class Spoilt:
    """Computes batches without a negative row; records their rows."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []

    def __call__(self, inputs: NDArray[Any], outputs: frozenset[str]) -> dict[str, NDArray[Any]]:
        self.batches.append(inputs[:, 0].tolist())
        if (inputs[:, 0] < 0).any():
            raise ValueError("spoilt")
        return answers(inputs, outputs)


def entry_of(loop: asyncio.AbstractEventLoop, *values: float, outputs: frozenset[str] = IMAGES) -> Entry:
    return Entry(rows_of(*values), outputs, float("inf"), 0.0, loop.create_future())


def whole(entry: Entry) -> Part:
    return Part(entry, 0, len(entry.inputs))


@given(spoilt=st.sets(st.integers(0, 15)), rows=st.lists(st.integers(1, 4), min_size=1, max_size=16))
def test_only_requests_with_a_bad_row_fail(loop: asyncio.AbstractEventLoop, spoilt: set[int], rows: list[int]) -> None:
    entries = []
    for number, count in enumerate(rows):
        values = [100.0 * (number + 1) + row for row in range(count)]
        values[-1] *= -1 if number in spoilt else 1
        entries.append(entry_of(loop, *values))
    run = Spoilt()
    result = run_batch(Instance("narrow", run, max_rows=64), [whole(entry) for entry in entries])
    for number, (entry, outcome) in enumerate(zip(entries, result.outcomes, strict=True)):
        if number in spoilt:
            assert isinstance(outcome, ValueError)
        else:
            assert not isinstance(outcome, Exception)
            np.testing.assert_array_equal(outcome["images"], entry.inputs * 2)
    assert not result.instance_broke
    bad = len(spoilt & set(range(len(rows))))
    assert len(run.batches) <= 1 + 2 * bad * (len(rows)).bit_length()


def test_halves_of_cancelled_requests_are_not_run_again(loop: asyncio.AbstractEventLoop) -> None:
    gone, bad = entry_of(loop, 1), entry_of(loop, -2)
    run = Spoilt()

    def run_and_leave(inputs: NDArray[Any], outputs: frozenset[str]) -> dict[str, NDArray[Any]]:
        gone.done.cancel()
        return run(inputs, outputs)

    result = run_batch(Instance("narrow", run_and_leave, max_rows=8), [whole(gone), whole(bad)])
    assert run.batches == [[1, -2], [-2]]
    assert isinstance(result.outcomes[1], ValueError)


@pytest.mark.parametrize("breaks", [True, False])
def test_an_instance_is_broken_if_known_good_rows_fail_too(loop: asyncio.AbstractEventLoop, breaks: bool) -> None:
    def probe() -> None:
        if breaks:
            raise RuntimeError("no device")

    result = run_batch(Instance("narrow", Spoilt(), max_rows=8, probe=probe), [whole(entry_of(loop, -1))])
    assert result.instance_broke == breaks


def test_a_successful_batch_is_not_followed_by_a_probe(loop: asyncio.AbstractEventLoop) -> None:
    def probe() -> None:
        raise AssertionError("probed")

    result = run_batch(Instance("narrow", Spoilt(), max_rows=8, probe=probe), [whole(entry_of(loop, 1))])
    assert not result.instance_broke


def test_parts_of_a_request_are_gathered_in_order(loop: asyncio.AbstractEventLoop) -> None:
    entry = entry_of(loop, *range(7))
    instance = Instance("narrow", answers, max_rows=8)
    for start, stop in ((4, 7), (0, 4)):
        (outcome,) = run_batch(instance, [Part(entry, start, stop)]).outcomes
        assert not isinstance(outcome, Exception)
        entry.deliver(stop - start, outcome)
    np.testing.assert_array_equal(entry.done.result()["images"], entry.inputs * 2)


def test_each_request_gets_only_the_outputs_it_wants(loop: asyncio.AbstractEventLoop) -> None:
    images, pixels = entry_of(loop, 1), entry_of(loop, 2, outputs=PIXELS)
    result = run_batch(Instance("narrow", answers, max_rows=8), [whole(images), whole(pixels)])
    assert [set(outcome) for outcome in result.outcomes if isinstance(outcome, dict)] == [IMAGES, PIXELS]


def test_batch_times_count_requested_and_padded_rows(loop: asyncio.AbstractEventLoop) -> None:
    instance = Instance("cuda:0", answers, cores=3, max_rows=8, padded_rows=lambda rows: 8)
    (times,) = run_batch(instance, [whole(entry_of(loop, 1, 2)), whole(entry_of(loop, 3))]).times
    assert (times.rows, times.padded_rows, times.group, times.cores, times.requests) == (3, 8, "cuda:0", 3, 2)
