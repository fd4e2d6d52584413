from __future__ import annotations

import pytest

from server.errors import QueueFull
from server.rpc.byte_budget import ByteBudget


def test_bytes_are_given_out_up_to_the_last_and_given_back() -> None:
    budget = ByteBudget(10)
    with budget.reserve(6), budget.reserve(4):
        assert budget.used_bytes == 10
        with pytest.raises(QueueFull, match=r"\(10 of 10 bytes, 1 more do not fit\): try again after a pause"):
            budget.reserve(1).__enter__()
    assert budget.used_bytes == 0


def test_bytes_come_back_when_the_work_fails() -> None:
    budget = ByteBudget(10)
    with pytest.raises(KeyError), budget.reserve(10):
        raise KeyError
    assert budget.used_bytes == 0
