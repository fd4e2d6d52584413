"""metrics.jsonl: one JSON object a line; appended to, and cut back to a checkpoint on resuming."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from ganserve.files import replace_file
from trainer.errors import RunFolderError

_Row = dict[str, int | float | str | list[float | None] | None]  # JSON has null for what is not finite


class MetricsLog:
    """The rows of one run. Each has `step` and `kind`.

    step: what a step measured. evaluation: metrics, and how they were measured. samples: how much the sample grid's
    images differ from each other. warning: what the watch had to say, by `name` and as `text`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Appends rows."""
        with self.path.open("ab") as file:
            file.write(_encode(rows))

    def read(self) -> Iterator[dict[str, Any]]:
        """All rows; a last line that a kill cut short is left out.

        Raises:
            RunFolderError: another line is not one that a run writes.
        """
        lines = self.path.read_bytes().split(b"\n") if self.path.is_file() else [b""]
        for number, line in enumerate(lines[:-1], 1):  # what follows the last newline is empty, or torn
            try:
                row: dict[str, Any] = msgspec.json.decode(line, type=_Row)
                if not isinstance(row.get("step"), int) or not isinstance(row.get("kind"), str):
                    raise msgspec.ValidationError("no kind, or no step")
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise RunFolderError(f"{self.path}, line {number}: not a line of metrics ({error})") from error
            yield row

    def rewind(self, step: int) -> None:
        """Drops rows after `step`, which a resumed run will write again."""
        replace_file(self.path, _encode(row for row in self.read() if row["step"] <= step))


def _encode(rows: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
