"""metrics.jsonl: one JSON object per line; appended to, and cut back to the checkpoint when a run is resumed."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ganserve.files import replace_file
from trainer.errors import RunFolderError

_Row = dict[str, int | float | str | list[float | None] | None]  # null: a number that is not finite


@dataclass(frozen=True)
class MetricsLog:
    """The rows of one run, each with a `step` and a `kind`.

    - step: losses and scores of one step.
    - resources: speed since the last such row, and memory (trainer/memory.py).
    - evaluation: metrics, and how they were measured.
    - floor: the same metrics of real images against other real images, before the first evaluation of an image size.
    - samples: how much the images of the sample grid differ.
    - warning: `name` and `text` of a warning (collapse.py, verdict.py).
    """

    path: Path

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Appends rows."""
        with self.path.open("ab") as file:
            file.write(_encode(rows))

    def read(self) -> Iterator[dict[str, Any]]:
        """Yields all rows, except a last line that a kill cut short.

        Raises:
            RunFolderError: another line is not a row.
        """
        lines = self.path.read_bytes().split(b"\n") if self.path.is_file() else [b""]
        for number, line in enumerate(lines[:-1], 1):  # nothing follows the last newline, or a torn line
            try:
                row: dict[str, Any] = msgspec.json.decode(line, type=_Row)
                if not isinstance(row.get("step"), int) or not isinstance(row.get("kind"), str):
                    raise msgspec.ValidationError("it has no kind or no step")
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise RunFolderError(f"{self.path}, line {number}: not a line of metrics ({error})") from error
            yield row

    def rewind(self, step: int, *, warnings: Container[str] = ()) -> None:
        """Drops the rows after `step`, and all warnings with these names, which a resumed run writes again."""
        kept = (row for row in self.read() if row["step"] <= step)
        replace_file(
            self.path, _encode(row for row in kept if row["kind"] != "warning" or row.get("name") not in warnings)
        )


def _encode(rows: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
