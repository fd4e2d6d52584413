from __future__ import annotations

import pytest

from server.errors import QueueFull
from server.rpc.byte_budget import ByteBudget


def test_bytes_are_reserved_up_to_the_limit_and_released() -> None:
    budget = ByteBudget(10)
    with budget.reserve(6), budget.reserve(4):
        assert budget.used_bytes == 10
        with pytest.raises(QueueFull, match=r"\(10 of 10 bytes, 1 more do not fit\): try again after a pause"):
            budget.reserve(1).__enter__()
    assert budget.used_bytes == 0


def test_bytes_are_released_after_an_error() -> None:
    budget = ByteBudget(10)
    with pytest.raises(KeyError), budget.reserve(10):
        raise KeyError
    assert budget.used_bytes == 0
