from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from server.models.fingerprints import ModelFiles, fingerprint_of, scan_model
from tests.server.tiny_bundles import publish_tiny_bundle


def append(folder: Path) -> None:
    with (folder / "1" / "card.json").open("a") as file:
        file.write(" ")


def touch(folder: Path) -> None:
    os.utime(folder / "1" / "model.onnx", ns=(1, 1))


def replace_by_an_equal_file(folder: Path) -> None:
    path = folder / "1" / "model.onnx"
    status = path.stat()
    copy = folder / "copy"
    copy.write_bytes(path.read_bytes())
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    copy.replace(path)


def remove(folder: Path) -> None:
    (folder / "1" / "model.onnx").unlink()


def edit_config(folder: Path) -> None:
    (folder / "config.pbtxt").write_text("version_policy { all {} }")


def publish_another(folder: Path) -> None:
    publish_tiny_bundle(folder.parent, version=2)


@pytest.mark.parametrize("change", [append, touch, replace_by_an_equal_file, remove, edit_config, publish_another])
def test_every_change_of_the_files_is_seen(repository: Path, change: Callable[[Path], None]) -> None:
    before = scan_model(repository, "tiny")
    assert scan_model(repository, "tiny") == before
    change(repository / "tiny")
    assert scan_model(repository, "tiny") != before


def test_a_model_that_is_gone_has_no_files(repository: Path) -> None:
    assert scan_model(repository, "other") == ModelFiles()
    assert fingerprint_of(repository / "other" / "1") == ()
