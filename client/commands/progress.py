"""The progress bar that commands show on a terminal while images come in, and the lines printed beside it."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from client.errors import one_line


class _Speed(ProgressColumn):
    """Images a second."""

    def render(self, task: Task) -> Text:
        """The speed lately; nothing at first."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.3g} images/s")


class ImageProgress:
    """Counts images on stderr; invisible when they all come at once, or when stderr is no terminal.

    Args:
        label: stands before the bar.
        total: how many images there will be.
        done: how many there are already.
    """

    def __init__(self, label: str, total: int, done: int = 0) -> None:
        self._console = Console(stderr=True)
        self._total = total
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Speed(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._progress.add_task(escape(label), total=total, completed=done, visible=False)

    def advance(self, images: int) -> None:
        """Notes that so many more images are done with."""
        self._progress.update(self._task, advance=images, visible=images < self._total)

    def say(self, line: str) -> None:
        """Prints a line on stderr, above the bar if there is one; nothing in it is obeyed by the terminal."""
        self._console.print(Text(one_line(line)), soft_wrap=True)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()


class TimeProgress:
    """Shows on stderr how much of a known time has passed, and with what; invisible when stderr is no terminal.

    Args:
        label: stands before the bar at first.
        total_s: how long it will take, in seconds.
    """

    def __init__(self, label: str, total_s: float) -> None:
        self._console = Console(stderr=True)
        self._is_visible = sys.stderr.isatty()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._is_visible,
        )
        self._task = self._progress.add_task(escape(label), total=total_s)

    def show(self, label: str, passed_s: float) -> None:
        """Says what is going on now, and how many seconds of all have passed."""
        self._progress.update(self._task, description=escape(label), completed=passed_s)

    def say(self, line: str) -> None:
        """Prints a line above the bar, if there is one; nothing in it is obeyed by the terminal."""
        if self._is_visible:
            self._console.print(Text(one_line(line)), soft_wrap=True)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()
