from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from server.remote.errors import RemoteUnavailable
from server.remote.fetch import Outcome
from server.remote.follower import Follower

URL = "s3://bucket/models"


class Scripted:
    """Stands for a fetcher: one outcome or error per pass, and `stop` with the last."""

    def __init__(self, *script: Outcome | RemoteUnavailable) -> None:
        self._script = list(script)
        self.stop = threading.Event()

    def fetch(self) -> Outcome:
        now = self._script.pop(0)
        if not self._script:
            self.stop.set()
        if isinstance(now, RemoteUnavailable):
            raise now
        return now


@pytest.fixture
def log_of(caplog: pytest.LogCaptureFixture) -> Callable[..., list[str]]:
    """Runs a follower over a script of outcomes; returns the lines of its log."""

    def run(*script: Outcome | RemoteUnavailable) -> list[str]:
        scripted: Any = Scripted(*script)
        with caplog.at_level(logging.INFO):
            Follower(scripted, URL, 0.001).run(scripted.stop)
        return [f"{record.levelname} {record.getMessage()}" for record in caplog.records]

    return run


def test_it_logs_what_is_new(log_of: Callable[..., list[str]]) -> None:
    assert log_of(Outcome(fetched={"tiny:2": 1700}, settings=["tiny"], present=["tiny:1"]), Outcome()) == [
        "INFO fetched tiny:2, 1.7 kB",
        "INFO fetched the config.pbtxt of tiny",
    ]


def test_a_remote_that_fails_is_logged_once_until_it_works_again(log_of: Callable[..., list[str]]) -> None:
    down, denied = RemoteUnavailable("it is down"), RemoteUnavailable("access is denied")
    assert log_of(down, down, denied, Outcome(), Outcome(), down) == [
        "WARNING it is down; trying again every 0.001 s, what is there stays",
        "WARNING access is denied; trying again every 0.001 s, what is there stays",
        f"INFO {URL} can be read again",
        "WARNING it is down; trying again every 0.001 s, what is there stays",
    ]


def test_a_version_with_a_problem_is_logged_once(log_of: Callable[..., list[str]]) -> None:
    bad = Outcome(problems=["a: differs"], unfinished=["tiny/2"])
    assert log_of(bad, bad, Outcome(problems=["b: differs"]), bad) == [
        "WARNING tiny/2 has no card.json yet; waiting for it",
        "WARNING a: differs",
        "WARNING b: differs",
        "WARNING tiny/2 has no card.json yet; waiting for it",
        "WARNING a: differs",
    ]


def test_it_can_begin_with_the_wait() -> None:
    scripted: Any = Scripted()
    scripted.stop.set()
    Follower(scripted, URL, 60).run(scripted.stop, at_once=False)


def test_a_single_pass_raises_its_error() -> None:
    scripted: Any = Scripted(RemoteUnavailable("it is down"))
    with pytest.raises(RemoteUnavailable, match="it is down"):
        Follower(scripted, URL, 60).fetch()
