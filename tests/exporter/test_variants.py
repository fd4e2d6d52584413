from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from exporter.errors import ParityError
from exporter.graph import ServedGraph
from exporter.source import Source
from exporter.torchscript import quiet_torchscript
from exporter.variants import (
    MIN_PSNR_DB,
    MIN_WITHIN_ONE_LEVEL,
    VARIANTS,
    Reduced,
    _judge,
    build_variant,
    compared_images,
    measure_fidelity,
)
from exporter.verify import Arrays, open_runner
from ganserve.bundle import VARIANT_FILES, Fidelity, ImageInput, LatentInput, RowInput, example_rows
from tests.exporter.conftest import graph_of, make_source, make_translator_source
from tests.exporter.generators import (
    FixedBatchGenerator,
    FlatGenerator,
    FloatOnlyGenerator,
    NanGenerator,
    ResNetTranslator,
    randomise,
)
from trainer.models import NetworkConfig, TranslatorConfig, build_generator, build_translator
from trainer.models.progressive import ProgressiveGenerator, plain

# Architectures with different layers, and their image sizes: linear, transposed convolution, upsampling with pixel
# norm, reflection padding with instance norm.
FAMILIES = {"mlp-batchnorm": 16, "dcgan-32": 32, "pggan": 8, "cyclegan-resnet": 32}
SMALL_IMAGES = ImageInput(channels=3, height=4, width=6)


def make_family_source(architecture: str) -> Source:
    torch.manual_seed(0)
    size = FAMILIES[architecture]
    if architecture == "cyclegan-resnet":
        translator = build_translator(TranslatorConfig(image_size=size, width=0.125, residual_blocks=1))
        return make_translator_source(translator, ImageInput(channels=3, height=size, width=size))
    config = NetworkConfig(architecture=architecture, image_size=size, channels=3, latent_dim=6, width=0.0625)
    generator = build_generator(config)
    if isinstance(generator, ProgressiveGenerator):
        generator = plain(generator)  # as from a run folder
    return make_source(randomise(generator))


def build(source: Source, precision: str, staged: Path, *, fold: bool = True) -> tuple[Fidelity, list[str]]:
    """Returns the fidelity and the announced steps."""
    example = torch.from_numpy(example_rows(source.input, 0, 3))
    steps: list[str] = []
    fidelity = build_variant(precision, source, graph_of(source), example, staged, steps.append, fold=fold)
    return fidelity, steps


@pytest.fixture(scope="module")
def dcgan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both variants of a DCGAN. Read only."""
    folder = tmp_path_factory.mktemp("dcgan")
    for precision in VARIANTS:
        fidelity, _ = build(make_family_source("dcgan-32"), precision, folder)
        assert fidelity.published
    return folder


def assert_interface_of_the_network(path: Path) -> None:
    source = make_family_source("dcgan-32")
    run = open_runner(path, source.input.name)
    for rows in (1, 2, 7):
        batch = example_rows(source.input, rows, rows)
        images, pixels = run(batch)
        expected_images, expected_pixels = (
            output.detach().numpy() for output in graph_of(source)(torch.from_numpy(batch))
        )
        assert [str(array.dtype) for array in (images, pixels)] == ["float32", "uint8"]
        np.testing.assert_allclose(images, expected_images, atol=0.03)
        np.testing.assert_allclose(pixels.astype(int), expected_pixels.astype(int), atol=4)


def test_every_variant_has_a_file() -> None:
    assert VARIANTS.keys() == VARIANT_FILES.keys()


@pytest.mark.parametrize("precision", VARIANTS)
@pytest.mark.parametrize("architecture", FAMILIES)
def test_every_architecture_runs_in_every_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, precision: str
) -> None:
    monkeypatch.setattr("exporter.variants._IMAGES", 16)
    source = make_family_source(architecture)
    before = {name: tensor.clone() for name, tensor in source.network.state_dict().items()}
    fidelity, steps = build(source, precision, tmp_path)
    assert fidelity.images == 16  # it runs, close enough or not
    assert fidelity.psnr_db > 30
    assert [path.name for path in tmp_path.iterdir()] == ([VARIANT_FILES[precision]] if fidelity.published else [])
    assert len(steps) == (1 if fidelity.published else 2)
    after = source.network.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())  # and it is still float32


@pytest.mark.parametrize("precision", VARIANTS)
def test_written_variant_has_the_interface_of_the_network_for_any_batch(dcgan: Path, precision: str) -> None:
    assert_interface_of_the_network(dcgan / VARIANT_FILES[precision])


def test_unfolded_variant_has_the_interface_of_the_network(tmp_path: Path) -> None:
    build(make_family_source("dcgan-32"), "bf16", tmp_path, fold=False)
    assert_interface_of_the_network(tmp_path / VARIANT_FILES["bf16"])


def test_bf16_weights_are_stored_in_half_the_bytes_and_channels_last(dcgan: Path) -> None:
    with quiet_torchscript():
        module = torch.jit.load(dcgan / VARIANT_FILES["bf16"])  # type: ignore[no-untyped-call]
    weights = list(module.state_dict().values())
    assert {weight.dtype for weight in weights} == {torch.bfloat16}
    maps = [weight for weight in weights if weight.ndim == 4]
    assert maps
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in maps)


def test_fp16_weights_are_stored_in_half_the_bytes_and_the_interface_is_float32(dcgan: Path) -> None:
    model = onnx.load(dcgan / VARIANT_FILES["fp16"])
    weights = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 4]
    assert weights
    assert {tensor.data_type for tensor in weights} == {onnx.TensorProto.FLOAT16}
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    assert kinds == {
        "latents": onnx.TensorProto.FLOAT,
        "images": onnx.TensorProto.FLOAT,
        "pixels": onnx.TensorProto.UINT8,
    }


def test_variant_that_is_not_close_enough_leaves_no_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    fidelity, steps = build(make_translator_source(ResNetTranslator()), "bf16", tmp_path)
    assert not fidelity.published
    assert (fidelity.images, fidelity.within_one_level < 0.999) == (256, True)
    assert list(tmp_path.iterdir()) == []
    assert steps[-1] == f"skip bf16, model.bf16.pt is not published: {fidelity}; required: 99.9% and 50 dB"


@pytest.mark.parametrize(
    ("generator", "precision"),
    [
        pytest.param(FloatOnlyGenerator(), "bf16", id="cannot-be-traced"),
        pytest.param(FloatOnlyGenerator(), "fp16", id="cannot-be-written-as-onnx"),
        pytest.param(FixedBatchGenerator(), "bf16", id="cannot-be-run"),
    ],
)
def test_network_that_does_not_run_in_a_precision_is_skipped_in_one_line(
    tmp_path: Path, generator: nn.Module, precision: str
) -> None:
    fidelity, steps = build(make_source(randomise(generator)), precision, tmp_path)
    assert (fidelity.images, fidelity.published) == (0, False)
    assert list(tmp_path.iterdir()) == []
    assert len(steps) == 2
    assert steps[1].startswith(f"skip {precision}, {VARIANT_FILES[precision]} is not published: ")
    assert "the network" in steps[1]
    assert "\n" not in steps[1]


def test_network_whose_images_are_nan_is_skipped(tmp_path: Path) -> None:
    fidelity, _ = build(make_source(NanGenerator()), "bf16", tmp_path)
    assert not fidelity.published
    assert (fidelity.within_one_level, fidelity.largest_level_difference) == (0.0, 255)


class Spy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        self.seen = images
        return images


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_network_takes_reduced_images_and_gives_float32(dtype: torch.dtype) -> None:
    spy = Spy()
    images = Reduced(spy, dtype, channels_last=True)(torch.zeros(2, 3, 4, 5))
    assert spy.seen is not None
    assert spy.seen.dtype == dtype
    assert spy.seen.is_contiguous(memory_format=torch.channels_last)
    assert images.dtype == torch.float32
    Reduced(spy, dtype, channels_last=False)(torch.zeros(2, 3, 4, 5))
    assert spy.seen.is_contiguous()


def test_latents_have_no_channels_to_put_last() -> None:
    reduced = Reduced(FlatGenerator().eval(), torch.bfloat16, channels_last=True)
    assert reduced(torch.zeros(2, LatentInput(latent_dim=6).latent_dim)).dtype == torch.float32


Change = Callable[[NDArray[Any], NDArray[Any]], Arrays]


def changed(graph: ServedGraph, change: Change) -> tuple[Callable[[NDArray[Any]], Arrays], list[int]]:
    """A variant that differs in a known way, and the list of its batches."""
    batches: list[int] = []

    def run(batch: NDArray[Any]) -> Arrays:
        batches.append(len(batch))
        images, pixels = graph(torch.from_numpy(batch))
        return change(images.numpy().copy(), pixels.numpy().copy())

    return run, batches


def measure(change: Change) -> Any:
    graph = ServedGraph(nn.Identity(), SMALL_IMAGES)
    return measure_fidelity(graph, changed(graph, change)[0], SMALL_IMAGES)


def test_fidelity_of_an_identical_variant_is_finite() -> None:
    graph = ServedGraph(nn.Identity(), SMALL_IMAGES)
    run, batches = changed(graph, lambda images, pixels: (images, pixels))
    fidelity = measure_fidelity(graph, run, SMALL_IMAGES)
    assert (fidelity.images, fidelity.within_one_level, fidelity.psnr_db) == (256, 1.0, 99.0)
    assert (fidelity.largest_level_difference, fidelity.published) == (0, True)
    assert sum(batches) == 256
    assert {1, 64} <= set(batches)  # a single row, and full batches


def test_fidelity_compares_pixels() -> None:
    def nudge(images: NDArray[Any], pixels: NDArray[Any]) -> Arrays:
        pixels[:, 0, 0, 0] ^= 1  # one of 72 values of each image, by one level
        return images + np.float32(0.5), pixels

    fidelity = measure(nudge)
    assert (fidelity.within_one_level, fidelity.largest_level_difference) == (1.0, 1)
    assert fidelity.psnr_db == pytest.approx(10 * math.log10(255**2 * 72))
    assert fidelity.published


def test_large_differences_do_not_wrap_around() -> None:
    fidelity = measure(lambda images, pixels: (images, 255 - pixels))
    assert not fidelity.published
    assert fidelity.largest_level_difference == 255
    assert fidelity.psnr_db < 10


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nonfinite_images_count_as_wrong_even_if_their_pixels_match(value: float) -> None:
    def spoil(images: NDArray[Any], pixels: NDArray[Any]) -> Arrays:
        images[:, 1, 2, 3] = value
        return images, pixels

    fidelity = measure(spoil)
    assert fidelity.within_one_level == pytest.approx(71 / 72)
    assert fidelity.largest_level_difference == 255
    assert not fidelity.published


@pytest.mark.parametrize(
    "change",
    [
        lambda images, pixels: (images, pixels.astype(np.int16)),
        lambda images, pixels: (images.astype(np.float16), pixels),
        lambda images, pixels: (images, pixels.transpose(0, 3, 1, 2)),
        lambda images, pixels: (images[:1], pixels),
    ],
)
def test_outputs_of_another_shape_or_dtype_are_an_error(change: Change) -> None:
    with pytest.raises(ParityError, match=r"^returns .* rows?$"):
        measure(change)


@given(st.lists(st.integers(0, 1 << 40), min_size=256, max_size=256).filter(any))
def test_fidelity_counts_all_pixel_values(counts: list[int]) -> None:
    fidelity = _judge(np.array(counts, np.int64), 5)
    total = sum(counts)
    assert fidelity.within_one_level == pytest.approx((counts[0] + counts[1]) / total)
    squared_error = sum(count * level**2 for level, count in enumerate(counts)) / total
    expected = 10 * math.log10(255**2 / squared_error) if squared_error else math.inf
    assert fidelity.psnr_db == pytest.approx(min(99.0, expected))
    assert fidelity.largest_level_difference == max(level for level, count in enumerate(counts) if count)
    assert fidelity.published == (fidelity.within_one_level >= MIN_WITHIN_ONE_LEVEL and fidelity.psnr_db >= MIN_PSNR_DB)


@pytest.mark.parametrize(
    ("levels", "published"),
    [
        pytest.param({0: 999, 1: 0, 2: 1}, True, id="as-many-as-allowed-are-off-by-two"),
        pytest.param({0: 998, 1: 0, 2: 2}, False, id="more-are"),
        pytest.param({0: 400, 1: 600}, True, id="most-are-off-by-one"),
        pytest.param({1: 1000}, False, id="all-are-off-by-one"),
        pytest.param({0: 9_999, 255: 1}, False, id="one-is-far-off"),
    ],
)
def test_both_limits_apply(levels: dict[int, int], published: bool) -> None:
    counts = np.zeros(256, np.int64)
    counts[list(levels)] = list(levels.values())
    assert _judge(counts, 1).published == published


@pytest.mark.parametrize(
    ("row_input", "side", "images"),
    [
        (LatentInput(latent_dim=6), 28, 256),
        (LatentInput(latent_dim=6), 128, 256),
        (LatentInput(latent_dim=6), 256, 64),
        (LatentInput(latent_dim=6), 1024, 16),
        (ImageInput(channels=3, height=256, width=256), 64, 64),
    ],
)
def test_fewer_large_images_are_compared(row_input: RowInput, side: int, images: int) -> None:
    assert compared_images(row_input, side, side) == images
