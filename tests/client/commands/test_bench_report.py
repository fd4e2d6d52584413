from __future__ import annotations

from typing import Any

import pytest

from client.bench.loads import ClosedLoad, OpenLoad
from client.bench.results import Results
from client.bench.session import Measurement
from client.commands.bench_report import line, remarks, show_table


def measurement(*, is_complete: bool = True, **fields: Any) -> Measurement:
    defaults: dict[str, Any] = {
        "seconds": 1.0,
        "requests": 4,
        "answered": 3,
        "errors": {"INTERNAL": 1},
        "requests_per_s": 3.0,
        "images_per_s": 1234.5,
        "p50_ms": 1.5,
        "p90_ms": 2.0,
        "p99_ms": 2.25,
        "max_ms": 3.0,
        "client_late_p99_ms": 0.1,
        "client_cores": 0.2,
    }
    return Measurement(ClosedLoad(8, 4), Results(**(defaults | fields)), is_complete)


def test_a_reliable_measurement_has_no_remark() -> None:
    assert list(remarks([measurement()])) == []


@pytest.mark.parametrize(
    ("fields", "remark"),
    [
        ({"is_complete": False}, "stopped early: closed 4"),
        ({"client_cores": 0.95}, "this client used a whole core, so it may be the bottleneck: closed 4"),
        (
            {"client_late_p99_ms": 6.0},
            "this client sent requests 5 ms late or more, which the latencies include: closed 4",
        ),
    ],
)
def test_a_measurement_that_the_client_limited_has_a_remark(fields: dict[str, Any], remark: str) -> None:
    assert list(remarks([measurement(), measurement(**fields)])) == [remark]


def test_the_table_shows_errors_and_a_dash_for_missing_values(capsys: pytest.CaptureFixture[str]) -> None:
    show_table([measurement(p50_ms=None, p90_ms=None, p99_ms=None)])
    assert capsys.readouterr().out.splitlines()[1].split() == [
        *("closed", "4", "8", "1234", "3", "-", "-", "-", "INTERNAL", "1"),
    ]


def test_a_line_names_the_load_and_its_size() -> None:
    assert line(measurement()) == "closed 4, 8 rows per request: 1234 images/s, p50 1.50 ms, p99 2.25 ms"
    one_row = Measurement(OpenLoad(1, 50.0, "poisson"), measurement().results, True)
    assert line(one_row).startswith("open 50/s, 1 row per request: ")
