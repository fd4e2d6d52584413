"""The bar of a fetch."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn


class FetchProgress(Progress):
    """A context manager: a bar on stderr for the current file, which disappears; hidden if stderr is no terminal."""

    def __init__(self) -> None:
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._name = ""
        self._file = self.add_task("", total=None, visible=False)

    def show(self, name: str, done_bytes: int, total_bytes: int | None) -> None:
        """Moves the bar.

        Args:
            name: Of the file.
            done_bytes: How much of it is there.
            total_bytes: How much it has; None if that is unknown.
        """
        if name != self._name:
            self._name = name
            self.reset(self._file, description=escape(name), visible=True)
        self.update(self._file, total=total_bytes, completed=done_bytes)
