from __future__ import annotations

import pytest

from server.errors import QueueFull
from server.rpc.call_limit import RETRY_AFTER_MS, CallLimit


def test_calls_enter_up_to_the_limit_and_again_once_others_have_left() -> None:
    limit = CallLimit(2)
    limit.enter()
    limit.enter()
    for _ in range(3):
        with pytest.raises(QueueFull, match=r"answering 2 requests.*max_concurrent_requests.*try again") as full:
            limit.enter()
        assert full.value.retry_after_ms == RETRY_AFTER_MS
    assert limit.inside == 2
    limit.leave()
    limit.enter()
    assert limit.inside == 2
