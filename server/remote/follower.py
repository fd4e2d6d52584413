"""Fetches again and again, and logs what is new and what is wrong."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Final

from rich.filesize import decimal

from server.remote.errors import RemoteUnavailable
from server.remote.fetch import Fetcher, Outcome

_log = logging.getLogger(__name__)
_REMOTE: Final = ""  # stands for the whole repository among the problems


class Follower:
    """Keeps a local repository up to date. Logs a problem when it begins, and when it is over.

    Args:
        fetcher: Does one pass.
        url: Of the remote repository, for the log.
        every_s: Seconds between two passes.
    """

    def __init__(self, fetcher: Fetcher, url: str, every_s: float) -> None:
        self._fetcher = fetcher
        self._url = url
        self._every_s = every_s
        self._problems: Mapping[str, str] = {}  # by what they are about

    def run(self, stop: threading.Event, *, at_once: bool = True) -> None:
        """Fetches until `stop` is set.

        Args:
            stop: Ends the wait between two passes.
            at_once: Whether to begin with a pass, instead of the wait.
        """
        while at_once or not stop.wait(self._every_s):
            at_once = False
            try:
                self.fetch()
            except RemoteUnavailable as error:
                self._report({_REMOTE: f"{error}; trying again every {self._every_s:g} s, what is there stays"})

    def fetch(self) -> Outcome:
        """Fetches once, and logs the outcome.

        Raises:
            RemoteUnavailable: As `Fetcher.fetch`.
        """
        outcome = self._fetcher.fetch()
        for version, size_bytes in outcome.fetched.items():
            _log.info("fetched %s, %s", version, decimal(size_bytes))
        for name in outcome.settings:
            _log.info("fetched the config.pbtxt of %s", name)
        waiting = {path: f"{path} has no card.json yet; waiting for it" for path in outcome.unfinished}
        self._report({**waiting, **{problem: problem for problem in outcome.problems}})
        return outcome

    def _report(self, problems: Mapping[str, str]) -> None:
        for about, problem in problems.items():
            if self._problems.get(about) != problem:
                _log.warning("%s", problem)
        if _REMOTE in self._problems and _REMOTE not in problems:
            _log.info("%s can be read again", self._url)
        self._problems = problems
