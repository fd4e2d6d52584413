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

_SUFFIXES: Final[dict[SampleFormat, str]] = {"png": ".png", "jpeg": ".jpg", "pixels": ""}
_FLAGS: Final = {"count": "n"}
_MAX_FLAT: Final = 10_000  # files in one folder; viewers and shells become slow with more
_FOLDER_ROWS: Final = 1000
_MIN_DIGITS: Final = 5
_LARGEST: Final[dict[str, int]] = {
    "version": 2**63 - 1,
    "seed": 2**64 - 1,
    "count": MAX_COUNT,
    "height": MAX_SIDE,
    "width": MAX_SIDE,
    "channels": 4,
}


@dataclass(frozen=True)
class SampleRecord:
    """Describes a sample: the images of rows 0 .. count-1 of a seed, by one version of a model; sizes in pixels."""

    model: str
    version: int
    seed: int
    count: int
    format: SampleFormat
    height: int
    width: int
    channels: int

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
        if fields.keys() != cls.__dataclass_fields__.keys():
            raise ValueError("it has other fields")
        for name, largest in _LARGEST.items():
            smallest = 0 if name == "seed" else 1
            if type(fields[name]) is not int or not smallest <= fields[name] <= largest:
                raise ValueError(f"{name} is not an integer in {smallest} .. {largest}")
        model = fields["model"]
        if not isinstance(model, str) or not model or not model.isprintable():
            raise ValueError("model is not a name")
        if fields["format"] not in get_args(SampleFormat):
            raise ValueError("format is unknown")
        return cls(**fields)

    def differences(self, **asked: object) -> list[str]:
        """Lists the flags whose values differ from this record, such as "--seed 7, not 8"; None matches anything."""
        return [
            f"--{_FLAGS.get(name, name)} {getattr(self, name)}, not {value}"
            for name, value in asked.items()
            if value is not None and getattr(self, name) != value
        ]

    def file_name(self, row: int) -> str:
        """The path of a row's image inside the folder or archive: 00007.png, or 01/01007.png above 10,000 rows."""
        digits = max(_MIN_DIGITS, len(str(self.count - 1)))
        name = f"{row:0{digits}d}{_SUFFIXES[self.format]}"
        return name if self.count <= _MAX_FLAT else f"{row // _FOLDER_ROWS:0{digits - 3}d}/{name}"

    def folders(self) -> list[tuple[str, range]]:
        """The sub-folders that `file_name` uses ("" for none) and the rows in each."""
        if self.count <= _MAX_FLAT:
            return [("", range(self.count))]
        starts = range(0, self.count, _FOLDER_ROWS)
        return [
            (self.file_name(start).partition("/")[0], range(start, min(start + _FOLDER_ROWS, self.count)))
            for start in starts
        ]
