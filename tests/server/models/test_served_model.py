from __future__ import annotations

import asyncio

from tests.server.served_models import served


async def test_a_model_is_unused_after_its_last_user_leaves() -> None:
    model = served()
    model.enter()
    with model.in_use():
        waiting = asyncio.create_task(model.unused())
        await asyncio.wait((waiting,), timeout=0)
        assert (model.users, waiting.done()) == (2, False)
    await asyncio.wait((waiting,), timeout=0)
    assert not waiting.done()
    model.leave()
    await waiting
    assert str(model) == "tiny:1"
