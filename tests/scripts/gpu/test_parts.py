from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.gpu import unpack
from scripts.gpu.packages import CARRIED, pins
from scripts.gpu.prepare import Parts, pack

ROOT = Path(__file__).parents[3]
PART_BYTES = 1000


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    site, data = tmp_path / "from" / "site", tmp_path / "from" / "data"
    (site / "package").mkdir(parents=True)
    (data / "MNIST").mkdir(parents=True)
    (site / "package" / "__init__.py").write_text("x = 1\n")
    (site / "package" / "left_out.so").write_bytes(b"huge")
    (data / "MNIST" / "images.gz").write_bytes(random.Random(0).randbytes(3500))
    return {"site": site, "data": data}


@pytest.fixture
def parts(tmp_path: Path, folders: dict[str, Path]) -> Path:
    folder = tmp_path / "parts"
    folder.mkdir()
    written = Parts(folder, PART_BYTES)
    pack(folders, lambda path: path.name != "left_out.so", written)
    written.close()
    assert len(written.sizes) > 1
    assert [path.stat().st_size for path in sorted(folder.glob("part.*"))] == written.sizes
    assert set(written.sizes[:-1]) == {PART_BYTES}
    return folder


def test_what_was_packed_is_unpacked(tmp_path: Path, parts: Path, folders: dict[str, Path]) -> None:
    target = tmp_path / "to"
    unpack.unpack(unpack.check(parts), target)
    files = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert files == {"site/package/__init__.py", "data/MNIST/images.gz"}
    assert (target / "data/MNIST/images.gz").read_bytes() == (folders["data"] / "MNIST/images.gz").read_bytes()


def test_a_missing_or_damaged_part_is_named(parts: Path) -> None:
    part = parts / "part.01"
    content = part.read_bytes()
    part.write_bytes(content[:-1] + b"?")
    with pytest.raises(ValueError, match=r"part\.01 is damaged: send it again"):
        unpack.check(parts)
    part.unlink()
    with pytest.raises(ValueError, match=r"part\.01 is missing: send it again"):
        unpack.check(parts)


def test_unpacking_needs_no_installed_package(tmp_path: Path, parts: Path) -> None:
    command = [
        sys.executable,
        "-I",
        "-S",
        str(ROOT / "scripts" / "gpu" / "unpack.py"),
        str(parts),
        str(tmp_path / "to"),
    ]
    finished = subprocess.run(command, check=False, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert f"--data {tmp_path / 'to' / 'data'}" in finished.stdout
    assert (tmp_path / "to/site/package/__init__.py").exists()


def test_the_cuda_libraries_of_torch_are_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "there"
    (there / "nvidia" / "cu13" / "lib").mkdir(parents=True)
    (there / "nvidia" / "cu13" / "lib" / "libcudart.so.13").touch()
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.setattr(sys, "path", [str(there)])
    sys.path_importer_cache.pop(str(there), None)
    for name in [name for name in sys.modules if name.split(".")[0] == "nvidia"]:
        monkeypatch.delitem(sys.modules, name)
    for _ in range(2):  # also when it is unpacked again
        assert unpack.link_cuda_libraries(site) == f"CUDA libraries: {there / 'nvidia'}"
    assert (site / "nvidia" / "cu13" / "lib" / "libcudart.so.13").exists()


def test_every_carried_package_has_one_version_in_the_lock_file() -> None:
    lines = pins(ROOT / "requirements.lock")
    assert [line.partition("==")[0] for line in lines] == list(CARRIED)


def test_a_package_that_is_not_locked_is_named() -> None:
    with pytest.raises(ValueError, match="has no no-such-package"):
        pins(ROOT / "requirements.lock", ("torch", "no-such-package"))
