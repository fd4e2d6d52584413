"""The virtual environments of the rivals and their packages; `benchmarks.peers.setup` creates them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_READY = "ready"


@dataclass(frozen=True)
class Environment:
    """A virtual environment of a rival: a folder of the peer home.

    `packages` are installed with our version of ONNX Runtime. `system_python` uses the Python of the operating system,
    because Triton's backend needs its libpython.
    """

    name: str
    packages: tuple[str, ...]
    system_python: bool = False

    def folder(self, home: Path) -> Path:
        """The folder of the environment."""
        return home / self.name

    def python(self, home: Path) -> Path:
        """Its interpreter."""
        return self.folder(home) / "bin" / "python"

    def site_packages(self, home: Path) -> Path:
        """The folder of its packages.

        Raises:
            FileNotFoundError: there is no such environment.
        """
        for folder in self.folder(home).glob("lib/python3*/site-packages"):
            return folder
        raise FileNotFoundError(f"no packages in {self.folder(home)}")

    def is_ready(self, home: Path) -> bool:
        """Whether setup has completed, with these packages."""
        mark = self.folder(home) / _READY
        return mark.is_file() and mark.read_text().split() == list(self.packages)

    def mark_ready(self, home: Path) -> None:
        """Marks the setup as complete."""
        (self.folder(home) / _READY).write_text("\n".join(self.packages) + "\n")


TRITON: Final = Environment("triton", ("nvidia-pytriton==0.7.0",), system_python=True)
MLSERVER: Final = Environment("mlserver", ("mlserver==1.7.1",))
MOSEC: Final = Environment("mosec", ("mosec==0.9.8",))
ENVIRONMENTS: Final = {environment.name: environment for environment in (TRITON, MLSERVER, MOSEC)}


def default_home() -> Path:
    """A folder in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "ganserve" / "peers"


def triton_backends(home: Path) -> Path:
    """The folder in which setup combines Triton's Python backend with its stub."""
    return TRITON.folder(home) / "backends"
