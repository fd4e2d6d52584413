from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np

from client.samples.record import SampleRecord
from tests.client.samples.sampling_source import Source, pixels, sample


def test_an_npz_holds_pixels_and_their_origin(tmp_path: Path) -> None:
    sample(tmp_path / "out.npz", Source())
    record = SampleRecord("dcgan", 3, 7, 10, 0, 10, "pixels", 3, 2, 3)
    with zipfile.ZipFile(tmp_path / "out.npz") as archive:
        assert archive.testzip() is None
    with np.load(tmp_path / "out.npz", allow_pickle=False) as arrays:
        assert arrays["images"].dtype == np.uint8
        np.testing.assert_array_equal(arrays["images"], np.stack([pixels(record, row) for row in range(10)]))
        assert (str(arrays["model"]), int(arrays["version"]), int(arrays["seed"])) == ("dcgan", 3, 7)
        assert json.loads(str(arrays["sample"]))["count"] == 10
        assert [array.dtype.kind for array in arrays.values()] == ["U", "U", "i", "u", "i", "u"]


def test_the_largest_seed_is_kept(tmp_path: Path) -> None:
    sample(tmp_path / "out.npz", Source(), seed=2**64 - 1)
    with np.load(tmp_path / "out.npz", allow_pickle=False) as arrays:
        assert int(arrays["seed"]) == 2**64 - 1
