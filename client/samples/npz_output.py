"""An .npz of pixels."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from typing import Final

import numpy as np

from client.errors import ServerFault
from client.samples.output import SampleRows
from client.samples.record import SampleRecord
from client.samples.zip_output import ZipOutput, member

_NPZ_RECORD: Final = "sample.npy"


class NpzOutput(ZipOutput):
    """An .npz of `images`, uint8 (rows, height, width, channels), and where they come from.

    That is `sample` (the record), `model`, `version`, `seed`, and `first_row`, the row of the first image.
    """

    def append(self, rows: SampleRows) -> None:
        """Adds the pixels of the next rows."""
        assert self._record is not None
        assert isinstance(rows, np.ndarray)
        shape = (self._record.height, self._record.width, self._record.channels)
        if rows.dtype != np.uint8 or rows.shape[1:] != shape:
            raise ServerFault(f"the server's images have shape {rows.shape[1:]}, but its list of models says {shape}")
        super().append(rows)

    def _record_of(self, archive: zipfile.ZipFile) -> bytes:
        with archive.open(_NPZ_RECORD) as file:
            return str(np.lib.format.read_array(file, allow_pickle=False)).encode()

    def _fill(self, archive: zipfile.ZipFile, record: SampleRecord, rows: Iterator[bytes]) -> None:
        arrays = {
            _NPZ_RECORD: np.array(record.to_json().decode()),
            "model.npy": np.array(record.model),
            "version.npy": np.array(record.version, np.int64),
            "seed.npy": np.array(record.seed, np.uint64),
            "first_row.npy": np.array(record.first_row, np.int64),
        }
        for name, array in arrays.items():
            with archive.open(member(name), "w") as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
        shape = (len(record.rows), record.height, record.width, record.channels)
        with archive.open(member("images.npy"), "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for row in rows:
                file.write(row)
