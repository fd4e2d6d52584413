"""What the files of a model look like from outside: enough to notice that they changed, without reading them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from ganserve.bundle import TRITON_CONFIG_FILE, check_name, list_versions, version_folder

Fingerprint: TypeAlias = tuple[tuple[str, int, int, int], ...]  # of each file: name, bytes, mtime in ns, inode


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model at one moment."""

    config: Fingerprint = ()  # of config.pbtxt; empty without one
    versions: Mapping[int, Fingerprint] = field(default_factory=dict)


def look_at(repository: Path, name: str) -> ModelFiles:
    """Looks at the files of a model; reads the disk.

    Raises:
        OSError: the folder of the model cannot be read.
    """
    folder = repository / check_name(name)
    config: list[tuple[str, int, int, int]] = []
    with contextlib.suppress(FileNotFoundError):
        config.append(_entry(TRITON_CONFIG_FILE, (folder / TRITON_CONFIG_FILE).stat()))
    versions = {
        version: fingerprint_of(version_folder(repository, name, version))
        for version in list_versions(repository, name)
    }
    return ModelFiles(tuple(config), versions)


def fingerprint_of(folder: Path) -> Fingerprint:
    """The fingerprint of the files in a folder; that of a folder that cannot be read is empty."""
    entries: list[tuple[str, int, int, int]] = []
    with contextlib.suppress(OSError), os.scandir(folder) as files:  # it may be removed while we look
        for file in files:
            with contextlib.suppress(OSError):
                entries.append(_entry(file.name, file.stat()))
    return tuple(sorted(entries))


def _entry(name: str, status: os.stat_result) -> tuple[str, int, int, int]:
    return (name, status.st_size, status.st_mtime_ns, status.st_ino)
