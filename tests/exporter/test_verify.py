from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter import verify
from exporter.errors import ParityError
from exporter.graph import ServedGenerator
from ganserve import bundle
from tests.exporter.conftest import Exported


def test_parity_reads_the_files(any_exported: Exported, tmp_path: Path) -> None:
    card = any_exported.card
    assert verify.prove_parity(any_exported.graph, any_exported.folder, card.input) == card.parity
    for file_name in (bundle.ONNX_FILE, bundle.TORCHSCRIPT_FILE):
        (tmp_path / file_name).write_bytes((any_exported.folder / file_name).read_bytes())
    (tmp_path / bundle.ONNX_FILE).write_bytes(b"not a graph")
    with pytest.raises(ParityError, match=r"^model\.onnx cannot be loaded"):
        verify.prove_parity(any_exported.graph, tmp_path, card.input)


def alter_onnx(monkeypatch: pytest.MonkeyPatch, images: float = 0.0, pixels: int = 0) -> None:
    """Makes onnxruntime's images and pixels differ by this much."""
    open_file = verify.onnx_runner

    def altered(path: Path, input_name: str) -> verify.Runner:
        run = open_file(path, input_name)

        def run_altered(batch: NDArray[Any]) -> verify.Arrays:
            true_images, true_pixels = run(batch)
            nudged = np.where(true_pixels < 128, true_pixels + pixels, true_pixels - pixels)
            return true_images + np.float32(images), nudged.astype(np.uint8)

        return run_altered

    monkeypatch.setattr(verify, "onnx_runner", altered)


@pytest.mark.parametrize(
    ("images", "pixels", "message"),
    [
        pytest.param(5e-4, 0, r"by up to 0\.0005 in images \(allowed 0\.0001\) and 0 grey levels", id="images"),
        pytest.param(0.0, 2, r"and 2 grey levels in pixels \(allowed 1\)", id="pixels"),
        pytest.param(np.nan, 0, "images hold NaN or infinity", id="nan"),
        pytest.param(np.inf, 0, "images hold NaN or infinity", id="infinity"),
    ],
)
def test_difference_above_the_tolerance_is_refused(
    exported: Exported, monkeypatch: pytest.MonkeyPatch, images: float, pixels: int, message: str
) -> None:
    alter_onnx(monkeypatch, images, pixels)
    with pytest.raises(ParityError, match=rf"^model\.onnx at 1 rows.*{message}"):
        verify.prove_parity(exported.graph, exported.folder, exported.card.input)


def test_difference_within_the_tolerance_is_recorded(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    alter_onnx(monkeypatch, 5e-5, 1)
    for figure in verify.prove_parity(exported.graph, exported.folder, exported.card.input):
        assert figure.onnx_images == pytest.approx(5e-5, rel=0.1)
        assert figure.onnx_pixels == 1
        assert figure.torchscript_pixels == 0


def test_tolerance_grows_with_the_value_range(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    alter_onnx(monkeypatch, 5e-4)
    wide = ServedGenerator(exported.source.network, -10.0, 10.0)
    with pytest.raises(ParityError, match=r"allowed 0\.001\)"):  # of pixels, which have another range in the file
        verify.prove_parity(wide, exported.folder, exported.card.input)


def test_input_of_another_name_than_the_contracts_is_refused(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ganserve.bundle.LatentInput.name", "other")
    with pytest.raises(ParityError, match=r"^model\.onnx at 1 rows cannot be run .*other"):
        verify.prove_parity(exported.graph, exported.folder, exported.card.input)
