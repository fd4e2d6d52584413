from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.peers.closed_loop import (
    Cell,
    LoadError,
    Summary,
    check_answers,
    measure_window,
    parse_summary,
    read_log,
)

PRINTED = """\
finished in 3.01s, 6832.00 req/s, 20.84MB/s
requests: 20496 total, 20528 started, 20496 done, 20495 succeeded, 1 failed, 0 errored, 0 timeout
status codes: 20495 2xx, 0 3xx, 0 4xx, 1 5xx
traffic: 62.52MB (65559271) total, 60.63KB (62088) headers (space savings 96.26%), 61.40MB (64377936) data
"""


def log_of(*requests: tuple[float, float, int]) -> NDArray[np.int64]:
    """A log of requests (start in s, duration in s, status), from an arbitrary start time."""
    return np.array(
        [
            (1_795_000_000_000_000 + round(began * 1e6), status, round(lasted * 1e6))
            for began, lasted, status in requests
        ]
    )


def test_the_summary_of_h2load_is_parsed() -> None:
    assert parse_summary(PRINTED) == Summary(done=20496, failed=1, data_bytes=64377936)


def test_without_a_summary_the_error_quotes_the_last_line() -> None:
    with pytest.raises(LoadError, match="connection refused"):
        parse_summary("starting benchmark...\nconnection refused\n")


def test_extra_columns_of_newer_versions_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("1795341514583601\t200\t8469\textra\n1795341514583603\t-1\t5\textra\n")
    assert read_log(path).tolist() == [[1795341514583601, 200, 8469], [1795341514583603, -1, 5]]


@pytest.mark.parametrize("made", [True, False])
def test_a_log_without_requests_is_an_error(tmp_path: Path, *, made: bool) -> None:
    path = tmp_path / "log"
    if made:
        path.touch()
    with pytest.raises(LoadError, match="no request"):
        read_log(path)


def test_requests_count_by_their_part_inside_the_window() -> None:
    log = log_of((0.0, 1.5, 200), (1.5, 1.0, 200), (2.5, 1.0, 200))
    window = measure_window(log, warm_up_s=1.0, seconds=2.0)
    assert window.requests == pytest.approx(0.5 / 1.5 + 1.0 + 0.5)


def test_latencies_are_of_requests_that_end_in_the_window() -> None:
    log = log_of((0.0, 0.9, 200), (0.9, 0.4, 200), (1.3, 0.6, 200), (1.9, 30.0, 200))
    window = measure_window(log, warm_up_s=1.0, seconds=2.0)
    assert window.p50_ms == pytest.approx(500)
    assert window.p99_ms == pytest.approx(598)


def test_failed_requests_do_not_count() -> None:
    log = log_of((0.0, 1.0, 200), (1.0, 1.0, 200), (1.0, 1.0, -1), (1.0, 1.0, 503))
    assert measure_window(log, warm_up_s=1.0, seconds=1.0).requests == pytest.approx(1.0)


def test_a_window_without_an_answer_is_an_error() -> None:
    with pytest.raises(LoadError, match="within 2 s"):
        measure_window(log_of((0.0, 9.0, 200)), warm_up_s=1.0, seconds=2.0)


@given(duration_ms=st.integers(1, 900), concurrency=st.integers(1, 8))
def test_a_steady_load_counts_the_same_in_any_window(duration_ms: int, concurrency: int) -> None:
    lasts = duration_ms / 1e3
    log = log_of(*((number * lasts, lasts, 200) for number in range(4000 // duration_ms)))
    log = np.concatenate([log] * concurrency)
    window = measure_window(log, warm_up_s=1.0, seconds=2.0)
    assert window.requests == pytest.approx(2.0 / lasts * concurrency, rel=1e-3)


def test_answers_of_the_right_size_are_images() -> None:
    check_answers(Summary(done=100, failed=0, data_bytes=100 * 3141), 3141)


@pytest.mark.parametrize(
    "summary",
    [
        pytest.param(Summary(100, 0, 0), id="errors in grpc-status alone"),
        pytest.param(Summary(100, 0, 99 * 3141), id="one error in a hundred"),
        pytest.param(Summary(100, 1, 100 * 3141), id="an HTTP error"),
        pytest.param(Summary(0, 0, 0), id="nothing done"),
    ],
)
def test_answers_that_are_not_all_images_are_an_error(summary: Summary) -> None:
    with pytest.raises(LoadError):
        check_answers(summary, 3141)


def test_a_cell_is_parsed_and_printed_the_same() -> None:
    assert Cell.parse("64x4") == (64, 4)
    assert str(Cell(64, 4)) == "64x4"


@pytest.mark.parametrize("text", ["", "64", "0x1", "1x0", "x", "1x2x3", "-1x2", "1 x 2", "99999x1"])
def test_an_error_names_the_invalid_cell(text: str) -> None:
    with pytest.raises(ValueError, match="is not a cell"):
        Cell.parse(text)
