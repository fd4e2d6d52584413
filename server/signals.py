"""What the process does on each signal.

| signal | reaction |
|---|---|
| SIGTERM | stop: retire, drain, exit; a second SIGTERM or SIGINT ends the process at once |
| SIGINT | the same without the time in which balancers notice, because a person waits |
| SIGHUP | reopen the access log |
| SIGUSR1 | write the stack of every thread to stderr |
| SIGQUIT | the same, and end |
| SIGUSR2, SIGPIPE | nothing |
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

_STDERR: Final = 2  # the file descriptor


def ignore_unexpected_signals() -> None:
    """Keeps SIGHUP and SIGUSR2 from ending the process, and lets SIGUSR1 and SIGQUIT show what it does.

    Call this first: it also works while modules are imported and models load. Python ignores SIGPIPE by itself.
    """
    for number in (signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, _write_stacks)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)  # a shell may have started the server with SIGQUIT ignored
    faulthandler.register(signal.SIGQUIT, _STDERR, chain=True)  # then the system's reaction, which ends the process


def _write_stacks(_number: int, _frame: FrameType | None) -> None:
    """Runs between two instructions of Python, while no other thread changes its stack.

    `faulthandler.register` interrupts at any moment, and sometimes crashes on the stack of a running thread.
    """
    faulthandler.dump_traceback(_STDERR, all_threads=True)


class StopSignals:
    """SIGTERM and SIGINT as a request to stop, for the running event loop.

    Attributes:
        received: set once the server should stop.
        hurried: whether it should stop without waiting for balancers.
    """

    def __init__(self) -> None:
        self.received = asyncio.Event()
        self.hurried = False
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop, number)

    def _stop(self, number: signal.Signals) -> None:
        if self.received.is_set():
            os._exit(128 + number)
        self.hurried = number == signal.SIGINT
        self.received.set()


def on_hangup(reopen: Callable[[], None]) -> None:
    """Calls `reopen` on the running event loop at each SIGHUP."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reopen)
