from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import nn

from trainer.errors import UserError
from trainer.models.cyclegan import (
    PatchField,
    TranslatorConfig,
    Upsampling,
    build_patch_discriminator,
    build_translator,
    check_translator,
)

UPSAMPLINGS: tuple[Upsampling, ...] = get_args(Upsampling)
FIELDS: tuple[PatchField, ...] = get_args(PatchField)
SIZES = [32, 36, 64, 128, 256]


def tiny(size: int = 32, *, upsampling: Upsampling = "transposed", field: PatchField = 70) -> TranslatorConfig:
    return TranslatorConfig(
        image_size=size, width=0.03, residual_blocks=1, upsampling=upsampling, patch_field=field, channels=3
    )


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_a_translator_has_the_published_number_of_parameters(upsampling: Upsampling) -> None:
    with torch.device("meta"):
        translator = build_translator(TranslatorConfig(image_size=64, upsampling=upsampling))
    assert count(translator) == 11_378_179


@pytest.mark.parametrize("field", FIELDS)
def test_a_patch_discriminator_has_the_published_number_of_parameters(field: PatchField) -> None:
    with torch.device("meta"):
        discriminator = build_patch_discriminator(TranslatorConfig(image_size=64, patch_field=field))
    assert count(discriminator) == 2_764_737


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_a_translated_image_keeps_its_shape_and_its_range(size: int, upsampling: Upsampling) -> None:
    translator = build_translator(tiny(size, upsampling=upsampling))
    translated = translator(torch.rand(2, 3, size, size) * 2 - 1)
    assert translated.shape == (2, 3, size, size)
    assert translated.abs().max() <= 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("field", "strides"), [(70, 3), (94, 4)])
def test_the_map_of_scores_has_one_score_per_patch(size: int, field: PatchField, strides: int) -> None:
    scores = build_patch_discriminator(tiny(size, field=field))(torch.randn(2, 3, size, size))
    side = size // 2**strides - (2 if field == 70 else 0)
    assert scores.shape == (2, 1, side, side)


@pytest.mark.parametrize("field", FIELDS)
def test_a_score_sees_exactly_its_patch(field: PatchField) -> None:
    discriminator = build_patch_discriminator(tiny(256, field=field)).double()
    for module in discriminator.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.InstanceNorm2d):  # its statistics depend on the complete image
                setattr(module, name, nn.Identity())
    images = torch.randn(1, 3, 256, 256, dtype=torch.float64, requires_grad=True)
    scores = discriminator(images)
    middle = scores.shape[-1] // 2
    scores[0, 0, middle, middle].backward()
    assert images.grad is not None
    seen = images.grad[0].abs().sum(0) > 0
    rows, columns = seen.any(1).nonzero().flatten(), seen.any(0).nonzero().flatten()
    assert [int(each[-1] - each[0]) + 1 for each in (rows, columns)] == [field, field]


@pytest.mark.parametrize("training", [True, False])
def test_the_translation_of_an_image_does_not_depend_on_its_batch(training: bool) -> None:
    translator = build_translator(tiny()).double().train(training)
    images = torch.rand(4, 3, 32, 32, dtype=torch.float64) * 2 - 1
    alone = torch.cat([translator(image[None]) for image in images])
    torch.testing.assert_close(translator(images), alone)


def test_training_and_evaluation_mode_translate_the_same() -> None:
    translator = build_translator(tiny())
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    trained = translator.train()(images)
    assert torch.equal(translator.eval()(images), trained)
    assert not list(translator.buffers())


@pytest.mark.parametrize("build", [build_translator, build_patch_discriminator])
def test_the_same_seed_gives_the_same_weights(build: Callable[[TranslatorConfig], nn.Module]) -> None:
    states = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        states.append(nn.utils.parameters_to_vector(build(tiny()).parameters()))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_initial_weights_have_the_papers_spread_and_biases_are_0() -> None:
    translator = build_translator(TranslatorConfig(image_size=64, width=0.25))
    weights = [parameter for name, parameter in translator.named_parameters() if name.endswith("weight")]
    biases = [parameter for name, parameter in translator.named_parameters() if name.endswith("bias")]
    assert torch.cat([weight.flatten() for weight in weights]).std().item() == pytest.approx(0.02, rel=0.02)
    assert len(biases) == len(weights)
    assert all(not bias.any() for bias in biases)


def test_every_parameter_that_can_matter_has_a_gradient() -> None:
    # The bias before an instance normalisation cancels out, so only its weight can matter.
    config = tiny(64)
    translator, discriminator = build_translator(config), build_patch_discriminator(config)
    discriminator(translator(torch.rand(2, 3, 64, 64) * 2 - 1)).square().mean().backward()
    for network in (translator, discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None
            assert parameter.grad.abs().max() > 0 or name.endswith("bias"), name


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_any_number_of_channels_is_translated(channels: int) -> None:
    config = TranslatorConfig(image_size=32, channels=channels, width=0.03, residual_blocks=1)
    translated = build_translator(config)(torch.zeros(1, channels, 32, 32))
    assert translated.shape == (1, channels, 32, 32)
    assert build_patch_discriminator(config)(translated).shape == (1, 1, 2, 2)


@pytest.mark.parametrize("blocks", [1, 6, 12])
def test_the_number_of_residual_blocks_is_the_configured_one(blocks: int) -> None:
    few = build_translator(TranslatorConfig(image_size=32, width=0.03, residual_blocks=blocks))
    one = 2 * (9 * 8 * 8 + 8)  # 256 features at width 0.03 are 8
    rest = count(build_translator(tiny())) - one
    assert count(few) == rest + blocks * one


@pytest.mark.parametrize("size", [4, 28, 33, 62, 260, 512])
@pytest.mark.parametrize("use", [check_translator, build_translator, build_patch_discriminator])
def test_an_unsupported_size_is_refused_with_the_valid_ones(
    use: Callable[[TranslatorConfig], object], size: int
) -> None:
    with pytest.raises(
        UserError,
        match=rf"--image-size {size}: .*multiples of 4 from 24 to 256 pixels.*; choose [0-9]+ or [0-9]+, the nearest",
    ) as caught:
        use(tiny(size))
    assert "\n" not in str(caught.value)


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(UserError, match=r"architecture 'unet'.*cyclegan-resnet"):
        check_translator(TranslatorConfig(architecture="unet", image_size=64))
