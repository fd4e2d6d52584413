"""A .parquet file of images, as the datasets library of Hugging Face reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

from client.errors import UnwritableOutput
from client.samples.archive import ArchiveOutput
from client.samples.record import SUFFIXES, SampleRecord

_RECORD_KEY: Final = b"ganclient_sample"
_ROWS_PER_GROUP: Final = 1000
_FEATURES: Final = {"image": {"_type": "Image"}, "row": {"dtype": "int64", "_type": "Value"}}


class ParquetOutput(ArchiveOutput):
    """A Parquet table with the columns `image` (the file's bytes and name) and `row`.

    Raises:
        UnwritableOutput: pyarrow is not installed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            import pyarrow.parquet  # an optional extra

            self._pyarrow: Any = pyarrow
        except ImportError as error:
            raise UnwritableOutput(
                f"{path}: needs pyarrow; pip install '.[parquet]' in a checkout, or write a .tar"
            ) from error

    def _record_in(self, path: Path) -> bytes:
        try:
            metadata = self._pyarrow.parquet.read_metadata(path).metadata or {}
            return bytes(metadata[_RECORD_KEY])
        except (KeyError, self._pyarrow.ArrowException) as error:
            raise ValueError(str(error)) from error

    def _build(self, path: Path, record: SampleRecord, rows: Iterator[bytes]) -> None:
        pa = self._pyarrow
        image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        metadata = {
            _RECORD_KEY: record.to_json(),
            b"huggingface": json.dumps({"info": {"features": _FEATURES}}).encode(),
        }
        schema = pa.schema([("image", image), ("row", pa.int64())], metadata)
        numbered = zip(record.rows, rows, strict=True)
        suffix = SUFFIXES[record.format]
        with pa.parquet.ParquetWriter(path, schema) as writer:
            while group := list(islice(numbered, _ROWS_PER_GROUP)):
                images = [{"bytes": file, "path": record.key(row) + suffix} for row, file in group]
                writer.write_table(pa.table([images, [row for row, _ in group]], schema))
