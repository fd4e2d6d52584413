"""What the files of a model look like from outside: enough to notice that they changed, without reading them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from ganserve.bundle import TRITON_CONFIG_FILE, BundleError, check_name, list_versions, version_folder

Fingerprint: TypeAlias = tuple[tuple[str, int, int, int], ...]  # of each file: name, bytes, mtime in ns, inode


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model at one moment."""

    config: Fingerprint = ()  # of config.pbtxt; empty without one
    versions: Mapping[int, Fingerprint] = field(default_factory=dict)


@dataclass(frozen=True)
class RepositoryFiles:
    """The files of all models at one moment."""

    models: Mapping[str, ModelFiles] = field(default_factory=dict)  # those with at least one version
    problems: Mapping[str, str] = field(default_factory=dict)  # why a model cannot be read; "" for the repository


def scan_repository(repository: Path) -> RepositoryFiles:
    """Lists the files of every model; reads the disk."""
    models: dict[str, ModelFiles] = {}
    problems: dict[str, str] = {}
    try:
        names = sorted(entry.name for entry in os.scandir(repository))
    except OSError as error:
        return RepositoryFiles({}, {"": f"the model repository {repository} cannot be read ({error.strerror})"})
    for name in names:
        try:
            files = scan_model(repository, name)
        except BundleError:  # not the name of a model
            continue
        except OSError as error:
            problems[name] = f"{name}: its folder cannot be read ({error.strerror})"
            continue
        if files.versions:
            models[name] = files
    return RepositoryFiles(models, problems)


def scan_model(repository: Path, name: str) -> ModelFiles:
    """Lists the files of a model, which has none unless it has a version; reads the disk.

    Raises:
        BundleError: the name is not one of a model.
        OSError: the folder of the model cannot be read.
    """
    folder = repository / check_name(name)
    config: list[tuple[str, int, int, int]] = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        config.append(_entry(TRITON_CONFIG_FILE, (folder / TRITON_CONFIG_FILE).stat()))
    versions = {
        version: fingerprint_of(version_folder(repository, name, version))
        for version in list_versions(repository, name)
    }
    return ModelFiles(tuple(config), versions) if versions else ModelFiles()


def fingerprint_of(folder: Path) -> Fingerprint:
    """The fingerprint of the files in a folder; that of a folder that cannot be read is empty."""
    entries: list[tuple[str, int, int, int]] = []
    with contextlib.suppress(OSError), os.scandir(folder) as files:  # it may be removed meanwhile
        for file in files:
            with contextlib.suppress(OSError):
                entries.append(_entry(file.name, file.stat()))
    return tuple(sorted(entries))


def _entry(name: str, status: os.stat_result) -> tuple[str, int, int, int]:
    return (name, status.st_size, status.st_mtime_ns, status.st_ino)
