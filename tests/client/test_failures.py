from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from client.failures import Failures


def test_every_failure_has_a_line_once_something_has_succeeded() -> None:
    lines: list[str] = []
    failures = Failures(lines.append)
    failures.any_succeeded = True
    for index in range(40):
        failures.add(f"{index}.png", "is empty")
    failures.say_rest()
    assert lines == [f"{index}.png: is empty" for index in range(40)]
    assert len(failures) == 40


def test_when_all_fail_alike_the_first_few_and_a_count_are_said() -> None:
    lines: list[str] = []
    failures = Failures(lines.append)
    for index in range(100_000):
        failures.add(f"{index}.png", f"is {index}x7, not 3x4")
    failures.say_rest()
    assert lines[0] == "0.png: is 0x7, not 3x4"
    assert lines[5:] == ["... and 99995 more like this: is 0x7, not 3x4"]
    assert len(failures) == 100_000


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 2000), st.integers(0, 2000)) | st.just((False, 0, 0)), max_size=50
    ),
    st.integers(1, 100),
)
def test_lines_are_bounded_and_counts_are_right(events: list[tuple[bool, int, int]], times: int) -> None:
    lines: list[str] = []
    failures = Failures(lines.append)
    added = 0
    for succeeded, kind, number in events:
        failures.any_succeeded |= succeeded
        for _ in range(times):
            failures.add("a.png", f"{'x' * kind} {number}")
            added += 1
    assert len(failures) == added
    said = len(lines)
    assert said <= 1000
    failures.say_rest()
    rest = lines[said:]
    assert len(rest) <= 51
    assert said + sum(int(line.split()[2]) for line in rest) == added


def test_endless_kinds_of_reasons_take_no_endless_memory() -> None:
    lines: list[str] = []
    failures = Failures(lines.append)
    letters = random.Random(0)
    for _ in range(2000):
        failures.add("a.png", "".join(letters.choices("abcdef", k=12)))
    failures.say_rest()
    assert len(failures) == 2000
    assert len(lines) < 100
    assert "more like this: other reasons" in lines[-1]
