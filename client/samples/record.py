"""The record that makes a folder or an archive of samples resumable, and the names of the image files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

from client.sdk.model_info import MAX_SIDE

SampleFormat: TypeAlias = Literal["png", "jpeg", "pixels"]

RECORD_NAME: Final = "sample.json"
MAX_COUNT: Final = 100_000_000
MAX_RECORD_BYTES: Final = 64 << 10

SUFFIXES: Final[dict[SampleFormat, str]] = {"png": ".png", "jpeg": ".jpg", "pixels": ""}
_MAX_FLAT: Final = 10_000  # files in one folder; viewers and shells become slow with more
_FOLDER_ROWS: Final = 1000
_MIN_DIGITS: Final = 5
_LARGEST: Final[dict[str, int]] = {
    "version": 2**63 - 1,
    "seed": 2**64 - 1,
    "count": MAX_COUNT,
    "first_row": MAX_COUNT,
    "end_row": MAX_COUNT,
    "height": MAX_SIDE,
    "width": MAX_SIDE,
    "channels": 4,
}


@dataclass(frozen=True)
class SampleRecord:
    """Describes a sample: rows `first_row` .. `end_row - 1` of the images of a seed, by one version of a model.

    The rows are a part of `count` images, which may be all. Files are named by their row among all of them, so parts
    that several machines write fit together. Sizes are in pixels.
    """

    model: str
    version: int
    seed: int
    count: int
    first_row: int
    end_row: int
    format: SampleFormat
    height: int
    width: int
    channels: int

    @property
    def rows(self) -> range:
        """The rows of this sample."""
        return range(self.first_row, self.end_row)

    def to_json(self) -> bytes:
        """Returns the record as JSON; equal records give equal bytes."""
        return (json.dumps({"ganclient_sample": 1, **asdict(self)}, indent=2) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> SampleRecord:
        """Reads what `to_json` wrote.

        Raises:
            ValueError: `data` is not a record.
        """
        if len(data) > MAX_RECORD_BYTES:
            raise ValueError("it is too long")
        try:
            fields: Any = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ValueError("it is not JSON") from error
        if not isinstance(fields, dict) or fields.pop("ganclient_sample", None) != 1:
            raise ValueError("another version of ganclient wrote it")
        if "first_row" not in fields and "end_row" not in fields:  # as written before samples had parts
            fields |= {"first_row": 0, "end_row": fields.get("count")}
        if fields.keys() != cls.__dataclass_fields__.keys():
            raise ValueError("it has other fields")
        for name, largest in _LARGEST.items():
            smallest = 0 if name in {"seed", "first_row"} else 1
            if type(fields[name]) is not int or not smallest <= fields[name] <= largest:
                raise ValueError(f"{name} is not an integer in {smallest} .. {largest}")
        if not fields["first_row"] < fields["end_row"] <= fields["count"]:
            raise ValueError("first_row and end_row are not a range within count")
        model = fields["model"]
        if not isinstance(model, str) or not model or not model.isprintable():
            raise ValueError("model is not a name")
        if fields["format"] not in get_args(SampleFormat):
            raise ValueError("format is unknown")
        return cls(**fields)

    def differences(self, *, rows: range | None, count: int | None, **asked: object) -> list[str]:
        """Lists the flags whose values differ from this record, such as "--seed 7, not 8"; None matches anything."""
        found = [
            f"--{name} {getattr(self, name)}, not {value}"
            for name, value in asked.items()
            if value is not None and getattr(self, name) != value
        ]
        if count is not None and self.count != count:
            found.append(f"--n {self.count}, not {count}")
        elif rows is not None and self.rows != rows:
            found.append(f"rows {self.first_row}..{self.end_row}, not {rows.start}..{rows.stop}")
        return found

    @property
    def key_digits(self) -> int:
        """The digits of a row in file names: those of the last of all rows, at least 5."""
        return max(_MIN_DIGITS, len(str(self.count - 1)))

    def key(self, row: int) -> str:
        """The name of a row without a folder or an extension, such as 00007."""
        return f"{row:0{self.key_digits}d}"

    def file_name(self, row: int) -> str:
        """The path of a row's image inside the folder or zip: 00007.png, or 01/01007.png above 10,000 rows."""
        name = self.key(row) + SUFFIXES[self.format]
        return name if self.count <= _MAX_FLAT else f"{row // _FOLDER_ROWS:0{self.key_digits - 3}d}/{name}"

    def folders(self) -> list[tuple[str, range]]:
        """The sub-folders that `file_name` uses ("" for none) and the rows in each."""
        if self.count <= _MAX_FLAT:
            return [("", self.rows)]
        starts = range(self.first_row - self.first_row % _FOLDER_ROWS, self.end_row, _FOLDER_ROWS)
        return [
            (
                self.file_name(start).partition("/")[0],
                range(max(start, self.first_row), min(start + _FOLDER_ROWS, self.end_row)),
            )
            for start in starts
        ]
