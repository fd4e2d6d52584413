from __future__ import annotations

import asyncio

import pytest

from server.errors import NotServed
from server.models.background_tasks import BackgroundTasks


@pytest.mark.parametrize(("error", "logged"), [(None, False), (NotServed("gone"), False), (ValueError("odd"), True)])
async def test_only_unexpected_errors_are_logged(
    error: Exception | None, logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        if error is not None:
            raise error

    await asyncio.wait([BackgroundTasks().start(work())])
    await asyncio.sleep(0)
    assert ("unexpected error" in caplog.messages) == logged


async def test_tasks_end_with_cancel() -> None:
    tasks = BackgroundTasks()
    task = tasks.start(asyncio.Event().wait())  # type: ignore[arg-type]  # its result does not matter
    await tasks.cancel()
    assert task.cancelled()
