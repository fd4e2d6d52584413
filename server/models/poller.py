"""Follows the model repository: notices new, changed and removed versions, and has them loaded and unloaded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, Protocol

from server.daemon_threads import in_daemon_thread
from server.models.background_tasks import BackgroundTasks
from server.models.fingerprints import ModelFiles, RepositoryFiles, look_at_all

_log = logging.getLogger(__name__)
_NO_FILES = ModelFiles()


class Follower(Protocol):
    """Brings a model up to date with its files: `Models`."""

    def follow(self, name: str) -> Coroutine[Any, Any, None]:
        """Serves what the repository has now."""

    def applied(self) -> Mapping[str, ModelFiles]:
        """The files of each known model that were seen when it was last brought up to date."""


class Poller:
    """Looks at the files of a repository again and again. For one event loop.

    Copying a version takes time, so a change counts once two looks in a row see the same files.

    Args:
        models: brings models up to date.
        repository: the model repository.
        poll_s: seconds between two looks.
        tasks: a model that takes long to load must not delay the others.
    """

    def __init__(self, models: Follower, repository: Path, poll_s: float, tasks: BackgroundTasks) -> None:
        self._models = models
        self._repository = repository
        self._poll_s = poll_s
        self._tasks = tasks
        self._seen = RepositoryFiles()
        self._problems: Mapping[str, str] = {}

    async def run(self) -> None:
        """Looks at the repository until it is cancelled."""
        while True:
            await asyncio.sleep(self._poll_s)
            await self.look()

    async def look(self) -> None:
        """Looks once, and starts to bring models up to date whose files have changed and then stayed the same."""
        now = await in_daemon_thread(look_at_all, self._repository)
        applied = self._models.applied()
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
                self._tasks.start(self._models.follow(name))
