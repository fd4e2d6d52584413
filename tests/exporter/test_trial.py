from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from exporter.errors import InputError
from exporter.graph import SpatialLatents
from exporter.signature import PLAIN, AdaptedNetwork, Signature
from exporter.torchscript import write_torchscript
from exporter.trial import adapt
from ganserve.bundle import ImageInput, LatentInput, RowInput
from tests.exporter.conftest import IMAGE_INPUT
from tests.exporter.gallery.convolutions import AttentionGenerator
from tests.exporter.gallery.entries import GALLERY
from tests.exporter.gallery.perceptrons import AutoEncoder, FlatGenerator, LabelledPerceptron, PerceptronGenerator
from tests.exporter.gallery.styles import ProgressiveGenerator, StyleGenerator, TransformerGenerator
from tests.exporter.generators import ResNetTranslator, RowDroppingTranslator, TutorialGenerator

LATENTS = LatentInput(latent_dim=20)


def try_on(module: nn.Module, row_input: RowInput = LATENTS, **signature: Any) -> nn.Module:
    return adapt(module.eval(), row_input, (-1.0, 1.0), Signature(**signature))


def line_of(module: nn.Module, row_input: RowInput = LATENTS, **signature: Any) -> str:
    with pytest.raises(InputError) as caught:
        try_on(module, row_input, **signature)
    line = str(caught.value)
    assert "\n" not in line
    return line


class Reshaped(PerceptronGenerator):
    """Its images, 1 x 16 x 16, in another shape."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z).reshape(z.shape[0], *self.shape)


class OptionalLabel(LabelledPerceptron):
    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        return super().forward(noise, labels)  # type: ignore[arg-type]  # as much public code does


class LabelFirst(LabelledPerceptron):
    def forward(self, labels: Tensor, noise: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(noise, labels)


class AnyArguments(PerceptronGenerator):
    def forward(self, *inputs: Tensor, **options: Any) -> Tensor:
        return super().forward(inputs[0])


class KeywordOnly(PerceptronGenerator):
    def forward(self, *, z: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(z)


class WithoutForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(20, 4)


def test_a_module_that_makes_images_is_returned_as_it_is() -> None:
    generator = PerceptronGenerator()
    assert try_on(generator) is generator
    translator = ResNetTranslator()
    assert try_on(translator, IMAGE_INPUT) is translator


def test_latents_are_spatial_for_code_in_the_style_of_dcgan() -> None:
    network = try_on(TutorialGenerator(), LatentInput(latent_dim=6))
    assert isinstance(network, SpatialLatents)
    assert not network.training


def test_a_signature_wraps_the_module_in_eval_mode() -> None:
    network = try_on(FlatGenerator(), output_image=(1, 28, 28))
    assert isinstance(network, AdaptedNetwork)
    assert not network.training
    assert network(torch.zeros(5, 20)).shape == (5, 1, 28, 28)


@pytest.mark.parametrize("shape", [(256,), (1, 256), (16, 16), (1, 16, 16), (16, 16, 1)])
def test_every_order_of_the_same_image_is_accepted(shape: tuple[int, ...]) -> None:
    latents = torch.randn(3, 20)
    generator = Reshaped(*shape)
    images = try_on(generator, output_image=(1, 16, 16))(latents)
    torch.testing.assert_close(images, PerceptronGenerator.forward(generator, latents))


@pytest.mark.parametrize("shape", [(4, 64), (8, 32), (1, 32, 8), (2, 8, 16)])
def test_another_shape_of_as_many_values_is_refused_because_it_would_scramble_the_pixels(
    shape: tuple[int, ...],
) -> None:
    assert line_of(Reshaped(*shape), output_image=(1, 16, 16)).startswith("--output-image 1 16 16 has 256 values, but")


@pytest.mark.parametrize(
    ("shape", "remedy"),
    [
        ((256,), "give the shape of an image with --output-image C H W, such as 1 16 16"),
        ((1, 256), "such as 1 16 16"),
        ((16, 16), "if these are gray images, give --output-image 1 16 16"),
        ((16, 16, 1), "if the channels are last, give --output-image 1 16 16"),
    ],
)
def test_the_proposed_shape_of_the_images_works(shape: tuple[int, ...], remedy: str) -> None:
    line = line_of(Reshaped(*shape))
    assert line.endswith(remedy)
    assert f"returns shape (N, {', '.join(map(str, shape))}) instead of images (N, C, H, W)" in line
    try_on(Reshaped(*shape), output_image=(1, 16, 16))


@pytest.mark.parametrize(
    ("values", "proposed"), [(3072, "such as 3 32 32"), (784, "such as 1 28 28"), (1000, "C H W"), (2, "subclass")]
)
def test_flat_rows_get_the_shape_of_square_images_proposed(values: int, proposed: str) -> None:
    assert proposed in line_of(nn.Linear(20, values))


def test_channels_last_in_colour_are_proposed_and_work() -> None:
    assert "give --output-image 3 16 16" in line_of(TransformerGenerator())
    assert try_on(TransformerGenerator(), output_image=(3, 16, 16))(torch.zeros(1, 20)).shape == (1, 3, 16, 16)


@pytest.mark.parametrize(
    ("module", "row_input", "item"),
    [
        pytest.param(AttentionGenerator(), LATENTS, "0", id="tuple"),
        pytest.param(AutoEncoder(), ImageInput(channels=1, height=16, width=16), "recon", id="dict"),
    ],
)
def test_the_proposed_item_works(module: nn.Module, row_input: RowInput, item: str) -> None:
    assert line_of(module, row_input).endswith(f"choose its images with --output-item {item}")
    try_on(module, row_input, output_item=item)


def test_an_output_without_any_item_needs_a_subclass() -> None:
    class Nothing(nn.Module):
        def forward(self, z: Tensor) -> None:
            return None

    assert line_of(Nothing()) == "the module's forward returns a NoneType; write a subclass as in docs/importing.md"


def test_missing_arguments_are_named_with_an_example() -> None:
    line = line_of(ProgressiveGenerator())
    assert line.startswith("the module's forward(z, step, alpha) also needs step and alpha; give --forward-kwargs")
    assert """'{"step": 1, "alpha": 1}'""" in line
    try_on(ProgressiveGenerator(), forward_kwargs={"step": 1, "alpha": 1})
    assert """'{"labels": [0]}'""" in line_of(LabelledPerceptron())
    try_on(LabelledPerceptron(), forward_kwargs={"labels": [0]})


def test_unknown_arguments_are_named() -> None:
    line = line_of(ProgressiveGenerator(), forward_kwargs={"stp": 1, "alpha": 1})
    assert line == "--forward-kwargs: forward(z, step, alpha) has no argument stp"


def test_a_label_as_a_plain_number_gets_the_list_proposed() -> None:
    line = line_of(LabelledPerceptron(), forward_kwargs={"labels": 3})
    assert line.endswith("if labels is a tensor with an entry per row, such as a label, write it as a list: [3]")


def test_an_optional_argument_that_is_needed_is_named() -> None:
    assert line_of(OptionalLabel()).endswith("""does it need labels? Give --forward-kwargs '{"labels": [0]}'""")
    try_on(OptionalLabel(), forward_kwargs={"labels": [0]})


def test_a_wrong_value_is_not_blamed_on_the_latents_alone() -> None:
    line = line_of(LabelledPerceptron(), forward_kwargs={"labels": [30]})
    assert line.endswith("IndexError: index out of range in self; are --latent-dim and --forward-kwargs right?")


def test_rows_must_be_the_first_argument() -> None:
    line = line_of(LabelFirst(), forward_kwargs={"labels": [3]})
    assert line.startswith("--forward-kwargs: labels is the first argument of forward(labels, noise), which takes the")
    assert line_of(KeywordOnly()).startswith("the module's forward(*, z) takes no input by position; write a subclass")


def test_a_forward_that_takes_anything_is_called() -> None:
    assert try_on(AnyArguments(), forward_kwargs={"truncation": 0.7})(torch.zeros(3, 20)).shape == (3, 1, 16, 16)


def test_a_module_without_forward_needs_a_subclass() -> None:
    assert line_of(WithoutForward()).endswith("write a subclass as in docs/importing.md")


@pytest.mark.parametrize("module", [PerceptronGenerator(), TutorialGenerator(), ProgressiveGenerator()])
def test_a_wrong_latent_size_is_answered_with_the_right_one(module: nn.Module) -> None:
    kwargs = {"step": 1, "alpha": 0.5} if isinstance(module, ProgressiveGenerator) else {}
    right = 6 if isinstance(module, TutorialGenerator) else 20
    line = line_of(module, LatentInput(latent_dim=5), forward_kwargs=kwargs)
    assert line.endswith(f"; give --latent-dim {right}, with which it runs")
    try_on(module, LatentInput(latent_dim=right), forward_kwargs=kwargs)


def test_a_latent_size_that_no_weight_tells_is_only_doubted() -> None:
    line = line_of(LabelledPerceptron(), LatentInput(latent_dim=5), forward_kwargs={"labels": [3]})
    assert line.endswith("are --latent-dim and --forward-kwargs right?")
    assert "(N, 5) gives RuntimeError: " in line
    assert "(N, 5, 1, 1) gives RuntimeError: " in line


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 2, 8)])
def test_a_wrong_input_size_names_its_flag(shape: tuple[int, int, int]) -> None:
    channels, height, width = shape
    line = line_of(ResNetTranslator(), ImageInput(channels=channels, height=height, width=width))
    assert line.startswith(f"the module's forward fails on images: (N, {channels}, {height}, {width}) gives Runtime")
    assert line.endswith("is --input-image right?")


def test_a_module_that_drops_rows_is_refused() -> None:
    line = line_of(RowDroppingTranslator(), IMAGE_INPUT)
    assert "returns a tensor of shape (1, 3, 8, 12) for 2 rows; it must return one image per row" in line


@pytest.mark.parametrize("fused", [True, False])
def test_a_convolution_over_all_rows_is_refused_before_the_export(fused: bool) -> None:
    kwargs = {"randomize_noise": False, "fused_modconv": fused}
    latents = LatentInput(latent_dim=16)
    if fused:
        assert "a group per row (fused modulated convolution, as in StyleGAN2)" in line_of(
            StyleGenerator(), latents, forward_kwargs=kwargs, output_item="0"
        )
    else:
        try_on(StyleGenerator(), latents, forward_kwargs=kwargs, output_item="0")


def test_grouped_convolutions_of_other_kinds_are_accepted() -> None:
    class Grouped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.ConvTranspose2d(20, 2, 4, groups=2)

        def forward(self, z: Tensor) -> Tensor:
            maps: Tensor = self.layer(z)
            return torch.conv2d(maps, torch.ones(2, 1, 3, 3), groups=2)[:, :1]

    assert isinstance(try_on(Grouped()), SpatialLatents)


def test_a_scripted_part_is_named_with_its_remedy() -> None:
    module = PerceptronGenerator()
    with pytest.warns(FutureWarning, match="torch.jit.script"):
        module.model[0] = torch.jit.script(module.model[0])
    assert line_of(module) == (
        "the module's model.0 is compiled by torch.jit.script, which cannot be exported to ONNX; build it without"
        " torch.jit.script, which changes no weights"
    )


@pytest.mark.parametrize("enabled", [True, False])
def test_autocast_is_refused_with_its_remedy(enabled: bool) -> None:
    class Autocast(PerceptronGenerator):
        def forward(self, z: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                return super().forward(z).float()

    if enabled:
        assert "take torch.autocast out of forward, or give it enabled=False" in line_of(Autocast())
    else:
        try_on(Autocast())


class PartlyCompiled(PerceptronGenerator):
    def __init__(self) -> None:
        super().__init__()
        self.model[0] = torch.compile(self.model[0])  # type: ignore[assignment]


@pytest.mark.parametrize("compiled", ["whole", "part", "in-place"])
def test_a_compiled_network_runs_without_the_compiler(compiled: str, tmp_path: Path) -> None:
    module: Any = PartlyCompiled() if compiled == "part" else PerceptronGenerator()
    plain = PerceptronGenerator()
    plain.load_state_dict({key.replace("_orig_mod.", ""): value for key, value in module.state_dict().items()})
    if compiled == "whole":
        module = torch.compile(module)
    if compiled == "in-place":
        module.compile()
    network = try_on(module)
    write_torchscript(network, torch.zeros(3, 20), tmp_path / "model.pt")
    latents = torch.randn(5, 20)
    with torch.no_grad():
        assert torch.equal(network(latents), plain.eval()(latents))


@pytest.mark.parametrize("name", GALLERY)
def test_no_network_of_the_gallery_needs_a_signature_that_it_does_not_have(name: str) -> None:
    entry = GALLERY[name]
    if {"--forward-kwargs", "--output-item", "--output-image"} & set(entry.flags):
        with pytest.raises(InputError):
            adapt(entry.build(), entry.row_input, entry.value_range, PLAIN)
    else:
        adapt(entry.build(), entry.row_input, entry.value_range, PLAIN)
