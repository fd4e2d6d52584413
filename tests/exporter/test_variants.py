"""Each architecture in each reduced precision, at tiny width."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from exporter.graph import served_graph
from exporter.source import Source
from exporter.torchscript import quiet_torchscript
from exporter.variants import VARIANTS, Reduced, build_variant
from ganserve.bundle import VARIANT_FILES, Fidelity, ImageInput, LatentInput, example_rows
from tests.exporter.conftest import make_source, make_translator_source
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

FAMILIES = {"mlp-batchnorm": 16, "dcgan-32": 32, "dcgan-upsample": 16, "pggan": 16, "cyclegan-resnet": 32}  # sizes


def make_family_source(architecture: str) -> Source:
    torch.manual_seed(0)
    size = FAMILIES[architecture]
    if architecture == "cyclegan-resnet":
        translator = build_translator(TranslatorConfig(image_size=size, width=0.125, residual_blocks=1))
        return make_translator_source(translator, ImageInput(channels=3, height=size, width=size))
    config = NetworkConfig(architecture=architecture, image_size=size, channels=3, latent_dim=6, width=0.0625)
    generator = build_generator(config)
    if isinstance(generator, ProgressiveGenerator):
        generator = plain(generator)  # as a run folder gives it
    return make_source(randomise(generator))


def build(source: Source, precision: str, staged: Path, *, fold: bool = True) -> tuple[Fidelity, list[str]]:
    """Returns the fidelity and what was announced."""
    reference = served_graph(source.network, source.input, source.value_min, source.value_max)
    example = torch.from_numpy(example_rows(source.input, 0, 3))
    steps: list[str] = []
    fidelity = build_variant(precision, source, reference, example, staged, steps.append, fold=fold)
    return fidelity, steps


def test_every_variant_has_a_file() -> None:
    assert VARIANTS.keys() == VARIANT_FILES.keys()


@pytest.mark.parametrize("precision", VARIANTS)
@pytest.mark.parametrize("architecture", FAMILIES)
def test_every_architecture_runs_in_every_precision(tmp_path: Path, architecture: str, precision: str) -> None:
    source = make_family_source(architecture)
    before = {name: tensor.clone() for name, tensor in source.network.state_dict().items()}
    fidelity, steps = build(source, precision, tmp_path)
    assert fidelity.images == 256  # it runs; whether these weights are close enough is another matter
    assert fidelity.psnr_db > 30
    assert [path.name for path in tmp_path.iterdir()] == ([VARIANT_FILES[precision]] if fidelity.published else [])
    assert len(steps) == (1 if fidelity.published else 2)
    after = source.network.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())  # nor has it become bfloat16


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("precision", VARIANTS)
def test_written_variant_has_the_interface_of_the_network_for_any_batch(
    tmp_path: Path, precision: str, fold: bool
) -> None:
    source = make_family_source("dcgan-32")
    fidelity, _ = build(source, precision, tmp_path, fold=fold)
    assert fidelity.published
    run = VARIANTS[precision].open(tmp_path / VARIANT_FILES[precision], source.input.name)
    graph = served_graph(source.network, source.input, -1.0, 1.0)
    for rows in (1, 2, 7):
        batch = example_rows(source.input, rows, rows)
        images, pixels = run(batch)
        expected_images, expected_pixels = (output.detach().numpy() for output in graph(torch.from_numpy(batch)))
        assert [str(array.dtype) for array in (images, pixels)] == ["float32", "uint8"]
        np.testing.assert_allclose(images, expected_images, atol=0.03)
        np.testing.assert_allclose(pixels.astype(int), expected_pixels.astype(int), atol=4)


def test_bf16_weights_are_stored_in_half_the_bytes_and_channels_last(tmp_path: Path) -> None:
    build(make_family_source("dcgan-32"), "bf16", tmp_path)
    with quiet_torchscript():
        module = torch.jit.load(tmp_path / VARIANT_FILES["bf16"])  # type: ignore[no-untyped-call]
    weights = list(module.state_dict().values())
    assert {weight.dtype for weight in weights} == {torch.bfloat16}
    maps = [weight for weight in weights if weight.ndim == 4]
    assert maps
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in maps)


def test_fp16_weights_are_stored_in_half_the_bytes_and_the_interface_is_float32(tmp_path: Path) -> None:
    build(make_family_source("dcgan-32"), "fp16", tmp_path)
    model = onnx.load(tmp_path / VARIANT_FILES["fp16"])
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
    assert steps[-1].startswith(f"refuse bf16, and go on without model.bf16.pt: {fidelity}; the limits are")


@pytest.mark.parametrize("precision", VARIANTS)
@pytest.mark.parametrize("generator", [FloatOnlyGenerator(), FixedBatchGenerator()], ids=["float-only", "fixed-batch"])
def test_network_that_does_not_run_so_is_refused_in_one_line(
    tmp_path: Path, generator: nn.Module, precision: str
) -> None:
    fidelity, steps = build(make_source(randomise(generator)), precision, tmp_path)
    assert (fidelity.images, fidelity.published) == (0, False)
    assert list(tmp_path.iterdir()) == []
    assert len(steps) == 2
    assert steps[1].startswith(f"refuse {precision}, and go on without {VARIANT_FILES[precision]}: the network ")
    assert "\n" not in steps[1]


@pytest.mark.parametrize("precision", VARIANTS)
def test_network_whose_images_are_nan_is_refused(tmp_path: Path, precision: str) -> None:
    fidelity, _ = build(make_source(NanGenerator()), precision, tmp_path)
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
def test_network_is_given_reduced_images_and_gives_float32(dtype: torch.dtype) -> None:
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
