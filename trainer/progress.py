"""Output while the user waits: progress bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sized
from textwrap import TextWrapper
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

T = TypeVar("T")


class SizedIterable(Sized, Iterable[T], Protocol[T]):  # type: ignore[misc]  # T is only read
    """An iterable with a length."""


class Progress:
    """Writes bars and lines to one console, so that they do not overwrite each other."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(
            emoji=False, highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140
        )

    def say(self, line: str) -> None:
        """Prints a line above any bar, on a terminal broken at spaces.

        Control characters, which file names may hold, are escaped.
        """
        shown = "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in line)
        shown = shown.encode("utf-8", "backslashreplace").decode()
        if self.console.is_terminal:  # which would break lines within words; paths stay whole, to be copied
            wrap = TextWrapper(self.console.width, break_long_words=False, break_on_hyphens=False)
            shown = "\n".join(map(wrap.fill, shown.split("\n")))
        self.console.print(shown, markup=False, emoji=False)

    def bar(self, *, clock: bool = True) -> RichProgress:
        """A bar; with `clock`, also counts, elapsed and remaining time. Prints nothing without a terminal."""
        clock_columns = (MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        return RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            *(clock_columns if clock else ()),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )

    def track(self, items: SizedIterable[T], description: str) -> Iterator[T]:
        """Yields `items` under a bar."""
        with self.bar() as bar:
            yield from bar.track(items, total=len(items), description=description)
