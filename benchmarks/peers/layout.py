"""How a server divides the cores: instances, and threads per instance."""

from __future__ import annotations

import re
from typing import NamedTuple

from ganserve.machine import usable_cores


class Layout(NamedTuple):
    """Written as 2x1: two instances of one thread each."""

    instances: int
    threads: int

    def __str__(self) -> str:
        return f"{self.instances}x{self.threads}"

    @classmethod
    def parse(cls, text: str) -> Layout:
        """Reads "2x1".

        Raises:
            ValueError: the text is not a layout.
        """
        return cls(*parse_pair(text, "layout; write INSTANCESxTHREADS, such as 2x1", most=999))


def one_instance_per_core() -> Layout:
    """The layout for throughput."""
    return Layout(usable_cores(), 1)


def one_instance_on_all_cores() -> Layout:
    """The layout for latency."""
    return Layout(1, usable_cores())


def parse_pair(text: str, what: str, *, most: int) -> tuple[int, int]:
    """Reads two numbers, each from 1 to `most`, written as 2x1.

    Raises:
        ValueError: the text is not such a pair.
    """
    match = re.fullmatch(r"([1-9][0-9]*)x([1-9][0-9]*)", text, re.ASCII)
    if match is None or max(map(len, match.groups())) > len(str(most)):
        raise ValueError(f"{text!r} is not a {what}")
    return int(match[1]), int(match[2])
