"""Unpacks the parts of scripts.gpu.prepare on a GPU machine; needs only Python's standard library.

    python3 -m scripts.gpu.unpack /tmp/gpu-parts /tmp/gpu

makes /tmp/gpu/site, to be put first on PYTHONPATH, and /tmp/gpu/data.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import lzma
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

SUMS = "SHA256SUMS"


class Joined(io.RawIOBase):
    """Files read as one."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._left = list(files)
        self._file: io.BufferedReader | None = None

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fills a buffer; returns 0 at the end of the last file."""
        while True:
            if self._file is None:
                if not self._left:
                    return 0
                self._file = self._left.pop(0).open("rb")
            if count := self._file.readinto(buffer):
                return count
            self._file.close()
            self._file = None


def check(folder: Path) -> list[Path]:
    """The parts in a folder, in order.

    Raises:
        ValueError: one is missing or damaged.
    """
    parts = []
    for line in (folder / SUMS).read_text().splitlines():
        wanted, name = line.split()
        part = folder / name
        if not part.is_file():
            raise ValueError(f"{part} is missing: send it again")
        with part.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != wanted:
                raise ValueError(f"{part} is damaged: send it again")
        parts.append(part)
    return parts


def unpack(parts: Sequence[Path], target: Path) -> None:
    """Unpacks the archive that the parts hold."""
    with (
        lzma.open(io.BufferedReader(Joined(parts), 1 << 20)) as content,
        tarfile.open(fileobj=content, mode="r|") as tar,
    ):
        tar.extractall(target, filter="data")


def link_cuda_libraries(site: Path) -> str:
    """Lets `onnxruntime.preload_dlls` find the CUDA libraries of PyTorch, which it expects beside onnxruntime."""
    spec = importlib.util.find_spec("nvidia")
    places = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    found = next((place for place in places if any(place.glob("*/lib/libcudart.so*"))), None)
    link = site / "nvidia"
    if found is None:
        return "warning: there are no CUDA libraries beside PyTorch; onnxruntime needs LD_LIBRARY_PATH"
    if not link.exists():
        link.symlink_to(found)
    return f"CUDA libraries: {found}"


def main() -> None:
    """Unpacks; the arguments are the folder of the parts and the target."""
    if len(sys.argv) != 3:
        sys.exit("usage: python3 -m scripts.gpu.unpack FOLDER_OF_THE_PARTS TARGET")
    folder, target = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        parts = check(folder)
    except (OSError, ValueError) as error:
        sys.exit(f"unpack: {error}")
    unpack(parts, target)
    print(link_cuda_libraries(target / "site"))
    print(f"unpacked: PYTHONPATH={target / 'site'}:$PWD, --data {target / 'data'}")


if __name__ == "__main__":
    main()
