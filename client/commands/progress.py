"""The progress bars that commands show on a terminal, and the lines printed above them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from client.errors import one_line


class _ImagesPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.3g} images/s")


class _Bar(Progress):
    """A context manager: a bar on stderr that disappears at the end; hidden if stderr is not a terminal."""

    def __init__(self, *columns: ProgressColumn) -> None:
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            *columns,
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )


class ImageProgress(_Bar):
    """Counts images; hidden if they all arrive at once.

    Args:
        label: The text in front of the bar.
        total: The number of images.
        done: How many of them exist already.
    """

    def __init__(self, label: str, total: int, done: int = 0) -> None:
        super().__init__(MofNCompleteColumn(), _ImagesPerSecond())
        self._total = total
        self._images = self.add_task(escape(label), total=total, completed=done, visible=False)

    def add(self, images: int) -> None:
        """Moves the bar forward by a number of images."""
        self.update(self._images, advance=images, visible=images < self._total)

    def say(self, line: str) -> None:
        """Prints a line on stderr, above the bar. Control characters are replaced."""
        self.console.print(Text(one_line(line)), soft_wrap=True)


class TimeProgress(_Bar):
    """Shows how much of a known duration has passed.

    Args:
        label: The text in front of the bar at first.
        total_s: The total time, in seconds.
    """

    def __init__(self, label: str, total_s: float) -> None:
        super().__init__()
        self._time = self.add_task(escape(label), total=total_s)

    def show(self, label: str, passed_s: float) -> None:
        """Sets the text in front of the bar and the number of seconds that have passed."""
        self.update(self._time, description=escape(label), completed=passed_s)

    def say(self, line: str) -> None:
        """Prints a line above the bar if the bar is visible. Control characters are replaced."""
        if not self.disable:
            self.console.print(Text(one_line(line)), soft_wrap=True)


@contextmanager
def waiting(label: str) -> Iterator[None]:
    """Shows what the command waits for, on stderr if that is a terminal; the line disappears at the end."""
    if not sys.stderr.isatty():
        yield
        return
    with Console(stderr=True).status(escape(one_line(label))):
        yield
