"""Follows the model repository: notices new, changed and removed versions, and has them loaded and unloaded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from server.daemon_threads import in_daemon_thread
from server.models.background_tasks import BackgroundTasks
from server.models.fingerprints import ModelFiles, RepositoryFiles, scan_repository

_log = logging.getLogger(__name__)
_NO_FILES = ModelFiles()


class Poller:
    """Scans a repository periodically. For one event loop.

    Copying a version takes time, so a change counts once two scans in a row see the same files.

    Args:
        follow: brings a model up to date.
        applied: returns the files that each known model had when it was last brought up to date.
        repository: the model repository.
        poll_s: seconds between two scans.
        tasks: a model that takes long to load must not delay the others.
    """

    def __init__(
        self,
        follow: Callable[[str], Coroutine[Any, Any, None]],
        applied: Callable[[], Mapping[str, ModelFiles]],
        repository: Path,
        poll_s: float,
        tasks: BackgroundTasks,
    ) -> None:
        self._follow = follow
        self._applied = applied
        self._repository = repository
        self._poll_s = poll_s
        self._tasks = tasks
        self._seen = RepositoryFiles()
        self._problems: Mapping[str, str] = {}

    async def run(self) -> None:
        """Polls the repository until it is cancelled."""
        while True:
            await asyncio.sleep(self._poll_s)
            await self.poll()

    async def poll(self) -> None:
        """Scans once, and starts to bring models up to date whose files have changed and then stayed the same."""
        now = await in_daemon_thread(scan_repository, self._repository)
        applied = self._applied()
        problems = dict(now.problems)
        if not now.models and not problems and any(files.versions for files in applied.values()):
            problems[""] = f"the model repository {self._repository} is empty: is it mounted?"
        for name, problem in problems.items():
            if self._problems.get(name) != problem:
                _log.warning("%s; what is served stays as it is", problem)
        self._problems = problems
        before, self._seen = self._seen, now
        if "" in problems:
            return
        for name in sorted({*now.models, *applied} - problems.keys()):
            files = now.models.get(name, _NO_FILES)
            known = applied.get(name)
            is_new = known is None and bool(files.versions)
            if (is_new or known not in (None, files)) and before.models.get(name, _NO_FILES) == files:
                self._tasks.start(self._follow(name))
