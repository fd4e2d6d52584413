"""Ends runs of ONNX Runtime that take too long, such as those of a graph with an endless loop.

ONNX Runtime looks at `RunOptions.terminate` before each node of a graph, also within a loop. One thread of the process
sets it, so a run costs no timer of its own.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any, Final, TypeVar

import onnxruntime

_T = TypeVar("_T")
_TICK_S: Final = 0.5
_SILENT: Final = 4  # ONNX Runtime would print what its exception says


class RunTooLong(Exception):  # noqa: N818 - says what is wrong
    """A run was ended because it took too long."""


class _Run:
    """A run in progress."""

    __slots__ = ("ended", "options", "ticks_left")

    def __init__(self, options: Any, ticks: int) -> None:
        self.options = options
        self.ticks_left = ticks
        self.ended = False


class _Watch:
    """The thread that ends runs.

    It counts ticks instead of comparing times: when a process goes on after a pause, its runs have as much time left as
    before.
    """

    def __init__(self) -> None:
        self.runs: set[_Run] = set()
        threading.Thread(target=self._watch, name="run limit", daemon=True).start()

    def _watch(self) -> None:
        while True:
            time.sleep(_TICK_S)
            for run in list(self.runs):
                run.ticks_left -= 1
                if run.ticks_left < 0:
                    run.ended = True
                    run.options.terminate = True


@cache
def _watch() -> _Watch:
    return _Watch()


class RunLimit:
    """The longest time that a run of a session may take.

    Args:
        limit_s: in seconds; a run ends up to a second later.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._ticks = math.ceil(limit_s / _TICK_S)
        self._runs = _watch().runs

    def run(self, call: Callable[[Any], _T]) -> _T:
        """Calls `call` with new onnxruntime.RunOptions, which it passes to a session.

        Raises:
            RunTooLong: the run was ended.
            Exception: any other error of the run.
        """
        options = onnxruntime.RunOptions()
        options.log_severity_level = _SILENT
        run = _Run(options, self._ticks)
        self._runs.add(run)
        try:
            return call(options)
        except Exception as error:
            if run.ended:
                text = f"a run was ended after {self._limit_s:g} s; raise --compute-timeout-s if it needs more"
                raise RunTooLong(text) from error
            raise
        finally:
            self._runs.discard(run)
