"""Packs what a GPU machine without network lacks into parts that are small enough to send.

    python -m scripts.gpu.prepare [--data DIR] [--part-mib 48] [--out .gpu]

The parts hold Python packages for Python 3.12 on x86-64, without ONNX Runtime's TensorRT provider, and the data sets of
the stage for quality that are in DIR. `python -m scripts.gpu.unpack` is the other end.
"""

from __future__ import annotations

import hashlib
import lzma
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final, cast

import click

from scripts.gpu.packages import pins

ROOT: Final = Path(__file__).parents[2]
SUMS: Final = "SHA256SUMS"
PYTHON: Final = "3.12"
_PLATFORM: Final = "x86_64-manylinux_2_28"
_LEFT_OUT: Final = ("libonnxruntime_providers_tensorrt.so",)
_DATA: Final = (
    "anime-faces-64.zip",
    "noto2twemoji-128.zip",
    *(
        f"MNIST/raw/{part}-idx{dimensions}-ubyte.gz"
        for part, dimensions in (("train-images", 3), ("train-labels", 1), ("t10k-images", 3), ("t10k-labels", 1))
    ),
)


class Parts:
    """A file that is cut into parts; also counts and hashes them.

    Args:
        folder: where part.00 and so on are written.
        part_bytes: the size of a part.
    """

    def __init__(self, folder: Path, part_bytes: int) -> None:
        self._folder, self._part_bytes = folder, part_bytes
        self.sizes: list[int] = []
        self._hashes: list[Any] = []
        self._file: Any = None

    def write(self, content: bytes) -> int:
        """Appends bytes."""
        view = memoryview(content)
        while view:
            if self._file is None or self.sizes[-1] == self._part_bytes:
                self._open_next()
            taken = view[: self._part_bytes - self.sizes[-1]]
            self._file.write(taken)
            self._hashes[-1].update(taken)
            self.sizes[-1] += len(taken)
            view = view[len(taken) :]
        return len(content)

    def close(self) -> None:
        """Ends the last part, and writes the hashes of all."""
        if self._file is not None:
            self._file.close()
        lines = (f"{each.hexdigest()}  part.{number:02d}\n" for number, each in enumerate(self._hashes))
        (self._folder / SUMS).write_text("".join(lines))

    def _open_next(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = (self._folder / f"part.{len(self.sizes):02d}").open("wb")
        self.sizes.append(0)
        self._hashes.append(hashlib.sha256())


def pack(folders: dict[str, Path], keep: Callable[[Path], bool], parts: Parts) -> None:
    """Writes files as one compressed archive.

    Args:
        folders: by their names in the archive.
        keep: whether to include a file.
        parts: receives the archive.
    """

    def included(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return member if member.isdir() or keep(Path(member.name)) else None

    with (
        lzma.open(cast("IO[bytes]", parts), "wb", preset=6) as compressed,
        tarfile.open(fileobj=compressed, mode="w|") as archive,
    ):
        for name, folder in folders.items():
            archive.add(folder, name, filter=included)


def install(target: Path) -> None:
    """Installs the packages for the other machine into a folder."""
    command = ["uv", "pip", "install", "--target", str(target), "--no-deps", "--only-binary", ":all:"]
    command += ["--python-version", PYTHON, "--python-platform", _PLATFORM, *pins(ROOT / "requirements.lock")]
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin") or "uv"
    subprocess.run([uv, *command[1:]], check=True)


@click.command(context_settings={"show_default": True})
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), default=Path("data"), help="The data sets.")
@click.option("--part-mib", type=click.IntRange(1, 4096), default=48, help="Largest size of a part.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=ROOT / ".gpu", show_default=".gpu")
def main(data: Path, part_mib: int, out: Path) -> None:
    """Makes the parts."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    parts = Parts(out, part_mib << 20)
    with tempfile.TemporaryDirectory() as folder:
        site, chosen = Path(folder) / "site", Path(folder) / "data"
        install(site)
        chosen.mkdir()
        for name in _DATA:
            if not (data / name).is_file():
                click.echo(f"left out: {data / name} does not exist", err=True)
                continue
            (chosen / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(data / name, chosen / name)
        click.echo("packing takes some minutes")
        pack({"site": site, "data": chosen}, lambda path: path.name not in _LEFT_OUT, parts)
    parts.close()
    for number, size in enumerate(parts.sizes):
        click.echo(f"{out / f'part.{number:02d}'}  {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
