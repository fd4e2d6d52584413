from __future__ import annotations

import os
import sys
import sysconfig
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from exporter.torchscript import quiet_torchscript
from ganserve import bundle
from tests.exporter.conftest import Exported


def load(exported: Exported) -> Any:
    with quiet_torchscript():
        return torch.jit.load(exported.folder / bundle.TORCHSCRIPT_FILE)  # type: ignore[no-untyped-call]


def test_torchscript_takes_any_batch_size(any_exported: Exported) -> None:
    module = load(any_exported)
    for rows in (1, 2, 5, 100):
        batch = torch.from_numpy(bundle.example_rows(any_exported.card.input, 9, rows))
        images, pixels = module(batch)
        expected, expected_pixels = any_exported.graph(batch)
        torch.testing.assert_close(images, expected, atol=2e-5, rtol=0)
        torch.testing.assert_close(pixels, expected_pixels, atol=1, rtol=0)


def test_torchscript_can_be_moved_to_another_dtype(any_exported: Exported) -> None:
    batch = torch.from_numpy(bundle.example_rows(any_exported.card.input, 9, 2))
    module = load(any_exported).to(torch.bfloat16)
    images, pixels = module(batch.to(torch.bfloat16) if batch.is_floating_point() else batch)
    assert images.dtype == torch.bfloat16
    assert pixels.dtype == torch.uint8


@pytest.mark.parametrize("file_name", [bundle.ONNX_FILE, bundle.TORCHSCRIPT_FILE, bundle.CARD_FILE])
def test_files_contain_no_local_path(any_exported: Exported, file_name: str) -> None:
    path = any_exported.folder / file_name
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            content = b"".join(name.encode() + archive.read(name) for name in archive.namelist())
    else:
        content = path.read_bytes()
    folders = [Path.cwd(), Path.home(), Path(__file__).parent, Path(torch.__file__).parent, any_exported.repository]
    folders += [Path(sys.prefix), Path(sysconfig.get_path("stdlib")), Path(tempfile.gettempdir())]
    found = [folder for folder in folders if os.fspath(folder).encode() in content]
    assert found == []


def test_only_torchscripts_own_warnings_are_silenced() -> None:
    with quiet_torchscript():
        warnings.warn("`torch.jit.trace` is deprecated", DeprecationWarning, stacklevel=1)
        with pytest.warns(UserWarning, match="something else"):
            warnings.warn("something else", UserWarning, stacklevel=1)
