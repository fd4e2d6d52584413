from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from exporter import verify
from exporter.errors import InputError, ParityError
from exporter.graph import ServedGraph, SpatialLatents
from exporter.source import Source
from ganserve import bundle
from ganserve.bundle import ImageInput
from tests.exporter import generators
from tests.exporter.conftest import Exported, graph_of, make_source, make_translator_source
from tests.exporter.generators import FlatGenerator, randomise


def check(source: Source) -> tuple[int, int, int]:
    return verify.check_output(source, graph_of(source))


@pytest.mark.parametrize(
    ("generator", "message"),
    [
        pytest.param(generators.NoisyGenerator(), "remove noise and dropout from forward", id="noise"),
        pytest.param(generators.BatchStatisticsGenerator(), "give every BatchNorm running statistics", id="statistics"),
        pytest.param(generators.NanGenerator(), "returns NaN or infinity", id="nan"),
        pytest.param(
            generators.HalfPrecisionGenerator(),
            r"returns torch.float16 \(2, 1, 4, 4\).*return images.float\(\)",
            id="half",
        ),
        pytest.param(SpatialLatents(generators.FiveChannelGenerator()), "images of 5 channels", id="channels"),
        pytest.param(
            generators.ByteRangeGenerator(), r"not in about -1 \.\. 1; give their range with --value-range", id="range"
        ),
        pytest.param(nn.Identity(), r"returns torch.float32 \(2, 6\), not float32 images", id="no-image"),
    ],
)
def test_output_that_cannot_be_served_is_refused(generator: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(make_source(randomise(generator)))


def test_generator_without_tanh_may_overshoot() -> None:
    class Overshooting(FlatGenerator):
        def forward(self, latents: torch.Tensor) -> torch.Tensor:
            return 1.8 * super().forward(latents)

    assert check(make_source(randomise(Overshooting()))) == (1, 4, 4)


def test_check_returns_the_image_shape_of_a_translator() -> None:
    assert check(make_translator_source(generators.ResNetTranslator())) == (3, 8, 12)


def test_translator_may_change_size_and_channels() -> None:
    enlarging = nn.Sequential(nn.Conv2d(3, 1, 3, padding=1), nn.Upsample(scale_factor=2), nn.Tanh())
    assert check(make_translator_source(enlarging)) == (1, 16, 24)


@pytest.mark.parametrize(
    ("translator", "message"),
    [
        pytest.param(generators.BatchMeanTranslator(), "image of a row depends on the rest", id="neighbours"),
        pytest.param(nn.BatchNorm2d(3, track_running_stats=False), "image of a row depends", id="statistics"),
        pytest.param(nn.Flatten(), r"returns torch.float32 \(2, 288\), not float32 images", id="no-image"),
        pytest.param(nn.Conv2d(3, 5, 1), "images of 5 channels", id="channels"),
        pytest.param(generators.InverseTranslator(total=255.0), "give their range with --value-range", id="range"),
    ],
)
def test_translator_that_cannot_be_served_is_refused(translator: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(make_translator_source(translator))


class CountingTranslator(nn.Module):
    """Shrinks large images, and records the number of rows per call."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.rows.append(len(images))
        return images[:, :, ::64, ::64].contiguous()


@pytest.mark.parametrize(("side", "rows"), [(64, [2, 8, 4]), (512, [2, 4, 2]), (1024, [2, 2, 1])])
def test_large_images_are_checked_in_small_batches(side: int, rows: list[int]) -> None:
    translator = CountingTranslator()
    check(make_translator_source(translator, ImageInput(channels=1, height=side, width=side)))
    assert translator.rows == rows


def test_parity_reads_the_files(any_exported: Exported, tmp_path: Path) -> None:
    card = any_exported.card
    assert verify.prove_parity(any_exported.graph, any_exported.folder, card.input) == card.parity
    for file_name in (bundle.ONNX_FILE, bundle.TORCHSCRIPT_FILE):
        (tmp_path / file_name).write_bytes((any_exported.folder / file_name).read_bytes())
    (tmp_path / bundle.ONNX_FILE).write_bytes(b"not a graph")
    with pytest.raises(ParityError, match=r"^model\.onnx cannot be loaded"):
        verify.prove_parity(any_exported.graph, tmp_path, card.input)


def alter_onnx(monkeypatch: pytest.MonkeyPatch, images: float = 0.0, pixels: int = 0) -> None:
    """Shifts the images and pixels of onnxruntime by this much."""
    open_runner = verify.open_runner

    def altered(path: Path, input_name: str) -> verify.Runner:
        run = open_runner(path, input_name)
        if path.name != bundle.ONNX_FILE:
            return run

        def run_altered(batch: NDArray[Any]) -> verify.Arrays:
            true_images, true_pixels = run(batch)
            nudged = np.where(true_pixels < 128, true_pixels + pixels, true_pixels - pixels)
            return true_images + np.float32(images), nudged.astype(np.uint8)

        return run_altered

    monkeypatch.setattr(verify, "open_runner", altered)


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
    with pytest.raises(ParityError, match=rf"^model\.onnx at 1 row.*{message}"):
        verify.prove_parity(exported.graph, exported.folder, exported.card.input)


def test_difference_within_the_tolerance_is_recorded(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    alter_onnx(monkeypatch, 5e-5, 1)
    for parity in verify.prove_parity(exported.graph, exported.folder, exported.card.input):
        assert parity.onnx_images == pytest.approx(5e-5, rel=0.1)
        assert parity.onnx_pixels == 1
        assert parity.torchscript_pixels == 0


def test_tolerance_grows_with_the_value_range(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    alter_onnx(monkeypatch, 5e-4)
    wide = ServedGraph(exported.source.network, exported.card.input, -10.0, 10.0)
    with pytest.raises(ParityError, match=r"allowed 0\.001\)"):  # of pixels, which have another range in the file
        verify.prove_parity(wide, exported.folder, exported.card.input)


def test_input_with_another_name_is_refused(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganserve.bundle.LatentInput.name", "other")
    with pytest.raises(ParityError, match=r"^model\.onnx at 1 row does not run .*other"):
        verify.prove_parity(exported.graph, exported.folder, exported.card.input)
