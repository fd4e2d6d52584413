"""Keeps account of files that fail, and says so in a bounded number of lines. Knows no server and no terminal."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Final

_FIRST_LINES: Final = 5  # for each kind of reason, while nothing has succeeded: most likely all fail alike
_MAX_LINES: Final = 1000
_MAX_KINDS: Final = 50

_OTHER_KIND: Final = "other reasons"


class Failures:
    """Counts failed files and reports each in one line, as long as that helps.

    Args:
        say: prints one line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said: Counter[str] = Counter()  # lines printed, by kind
        self._unsaid: Counter[str] = Counter()  # failures without a line of their own, by kind
        self._examples: dict[str, str] = {}  # kind -> the first reason of that kind
        self.any_succeeded = False

    def __len__(self) -> int:
        """The number of failures."""
        return self._said.total() + self._unsaid.total()

    def add(self, name: str, reason: str) -> None:
        """Notes that the file `name` failed; reasons that differ in numbers only are of one kind."""
        kind = re.sub(r"\d+", "0", reason)
        if kind not in self._examples and len(self._examples) >= _MAX_KINDS:
            kind = reason = _OTHER_KIND
        self._examples.setdefault(kind, reason)
        if self._said.total() < _MAX_LINES and (self.any_succeeded or self._said[kind] < _FIRST_LINES):
            self._said[kind] += 1
            self._say(f"{name}: {reason}")
        else:
            self._unsaid[kind] += 1

    def say_rest(self) -> None:
        """Reports, a line for each kind, how many failures had no line of their own."""
        for kind, count in self._unsaid.items():
            self._say(f"... and {count} more like this: {self._examples[kind]}")
