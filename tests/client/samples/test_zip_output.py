from __future__ import annotations

import zipfile
from pathlib import Path

from tests.client.samples.sampling_source import Source, sample, tree


def test_a_zip_holds_the_same_files(tmp_path: Path) -> None:
    sample(tmp_path / "out", Source())
    sample(tmp_path / "out.zip", Source())
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.testzip() is None
        members = {f"out/{name}": archive.read(name) for name in archive.namelist()}
    assert members == {name: data for name, data in tree(tmp_path / "out").items() if name.startswith("out/")}
