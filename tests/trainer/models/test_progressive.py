from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from trainer.models.architecture import NetworkConfig
from trainer.models.progressive import (
    ARCHITECTURES,
    ProgressiveDiscriminator,
    ProgressiveGenerator,
    ProgressiveNetwork,
)
from trainer.models.progressive_layers import EqualisedConv2d, EqualisedLatentLayer, MinibatchStd

BY_NAME = {architecture.name: architecture for architecture in ARCHITECTURES}
NAMES = list(BY_NAME)
LATENT_DIM = 24

# Parameters of a 1024x1024 network that run at each resolution, without a fade, by hand from the paper's table 2:
# resolution: (generator, discriminator). A 3x3 convolution has 9 in out + out.
STAGE_PARAMETERS = {
    4: (6_556_163, 6_561_793),  # G: 4x4 512-512, 3x3 512-512, toRGB; D: fromRGB, 3x3 513-512, 4x4 512-512, 512-1
    8: (11_275_779, 11_281_409),  # and two 3x3 512-512 of 2,359,808
    16: (15_995_395, 16_001_025),
    32: (20_715_011, 20_720_641),
    64: (22_484_227, 22_489_857),  # and G 512-256, 256-256; D 256-256, 256-512; toRGB and fromRGB of 256
    128: (22_926_467, 22_932_097),
    256: (23_036_995, 23_042_625),
    512: (23_064_611, 23_070_241),
    1024: (23_071_507, 23_077_137),  # 23.1 million each, says the paper
}

# The write-up's 128x128 networks have a pseudo-label, and with it 22,933,395 and 25,154,050 parameters. Ours do not.
ANIME_PARAMETERS = (
    22_933_395 - 1,  # the 1x1 embedding of the label; all 512 inputs of ours are latent
    25_154_050 - 513,  # the label's logit: 512 weights and a bias
)


def network_config(name: str = "pggan", size: int = 32, width: float = 1 / 16, channels: int = 3) -> NetworkConfig:
    return NetworkConfig(architecture=name, image_size=size, width=width, channels=channels, latent_dim=LATENT_DIM)


def build_generator(config: NetworkConfig) -> ProgressiveGenerator:
    generator = BY_NAME[config.architecture].generator(config)
    assert isinstance(generator, ProgressiveGenerator)
    return generator


def build_discriminator(config: NetworkConfig) -> ProgressiveDiscriminator:
    discriminator = BY_NAME[config.architecture].discriminator(config)
    assert isinstance(discriminator, ProgressiveDiscriminator)
    return discriminator


def latents(rows: int = 3) -> Tensor:
    return torch.randn(rows, LATENT_DIM)


def used(network: ProgressiveNetwork, inputs: Tensor) -> set[str]:
    """Names of the parameters that a backward pass reaches."""
    network.zero_grad(set_to_none=True)
    network(inputs).sum().backward()
    return {name for name, parameter in network.named_parameters() if parameter.grad is not None}


def with_random_biases(network: nn.Module) -> None:
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, 0, 0.5)


def inputs_of(network: ProgressiveNetwork) -> Tensor:
    images = torch.randn(2, 3, network.resolution, network.resolution)
    return latents() if isinstance(network, ProgressiveGenerator) else images


@pytest.mark.parametrize("resolution", STAGE_PARAMETERS)
def test_the_parameters_in_use_at_each_resolution_match_the_paper(resolution: int) -> None:
    config = NetworkConfig(architecture="pggan", image_size=1024, channels=3, latent_dim=512)
    with torch.device("meta"):  # shapes only
        generator, discriminator = build_generator(config), build_discriminator(config)
        counts = []
        for network, inputs in (
            (generator, torch.empty(1, 512)),
            (discriminator, torch.empty(1, 3, *[resolution] * 2)),
        ):
            network.set_growth(resolution, 1.0)
            names = used(network, inputs)
            counts.append(sum(value.numel() for name, value in network.named_parameters() if name in names))
    assert tuple(counts) == STAGE_PARAMETERS[resolution]


def test_the_papers_networks_have_23_1_million_parameters_each() -> None:
    assert [round(count / 1e6, 1) for count in STAGE_PARAMETERS[1024]] == [23.1, 23.1]


def test_the_anime_networks_have_the_parameters_of_the_write_up_without_its_label() -> None:
    config = NetworkConfig(architecture="pggan-anime128", image_size=128, channels=3, latent_dim=512)
    with torch.device("meta"):
        networks = build_generator(config), build_discriminator(config)
    assert tuple(sum(value.numel() for value in network.parameters()) for network in networks) == ANIME_PARAMETERS


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_new_network_is_fully_grown_and_uses_all_blocks_but_only_the_last_image_layer(
    name: str, channels: int
) -> None:
    generator = build_generator(network_config(name, channels=channels))
    discriminator = build_discriminator(network_config(name, channels=channels))
    images = generator(latents())
    assert images.shape == (3, channels, 32, 32)
    assert discriminator(images).shape == (3,)
    for network, inputs, ends in ((generator, latents(), "to_rgb"), (discriminator, images.detach(), "from_rgb")):
        assert (network.resolution, network.alpha) == (32, 1.0)
        names = {name for name, _ in network.named_parameters()}
        assert used(network, inputs) == {name for name in names if not name.startswith(ends) or f"{ends}.3" in name}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_parameters_that_the_growth_does_not_use_get_no_gradient(name: str, alpha: float) -> None:
    for network in (build_generator(network_config(name)), build_discriminator(network_config(name))):
        network.set_growth(16, alpha)
        fading = {1} if alpha < 1 else set()
        stages: dict[str, set[int]] = {"blocks": set(), "to_rgb": set(), "from_rgb": set()}
        for parameter in used(network, inputs_of(network)):
            part, stage = parameter.split(".")[:2]
            stages[part].add(int(stage))
        assert stages["blocks"] == {0, 1, 2}
        assert stages["to_rgb"] | stages["from_rgb"] == {2} | fading


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("resolution", [4, 8, 16, 32])
def test_at_alpha_1_a_network_equals_one_that_never_grew(name: str, resolution: int) -> None:
    grown = build_generator(network_config(name)), build_discriminator(network_config(name))
    small = network_config(name, resolution)
    fixed = build_generator(small), build_discriminator(small)
    for network, reference in zip(grown, fixed, strict=True):
        with_random_biases(network)
        reference.load_state_dict({key: network.state_dict()[key] for key in reference.state_dict()})
        network.set_growth(resolution, 1.0)
        inputs = inputs_of(network)
        torch.testing.assert_close(network(inputs), reference(inputs), rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("resolution", [8, 16, 32])
def test_at_alpha_0_the_generator_makes_the_enlarged_images_of_the_stage_before(name: str, resolution: int) -> None:
    generator, inputs = build_generator(network_config(name)), latents()
    generator.set_growth(resolution // 2, 1.0)
    before = generator(inputs)
    generator.set_growth(resolution, 0.0)
    enlarged = before.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(generator(inputs), enlarged, rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("resolution", [8, 16, 32])
def test_at_alpha_0_the_discriminator_sees_the_averaged_images_of_the_stage_before(name: str, resolution: int) -> None:
    discriminator = build_discriminator(network_config(name))
    images = torch.randn(5, 3, resolution, resolution)
    discriminator.set_growth(resolution, 0.0)
    faded = discriminator(images)
    discriminator.set_growth(resolution // 2, 1.0)
    averaged = images.reshape(5, 3, resolution // 2, 2, resolution // 2, 2).mean(dim=(3, 5))
    torch.testing.assert_close(faded, discriminator(averaged))


@pytest.mark.parametrize("name", NAMES)
def test_a_fade_weighs_the_old_and_the_new_image(name: str) -> None:
    generator, inputs = build_generator(network_config(name)), latents()
    images = []
    for alpha in (0.0, 0.25, 1.0):
        generator.set_growth(16, alpha)
        images.append(generator(inputs))
    torch.testing.assert_close(images[1], 0.75 * images[0] + 0.25 * images[2])


@pytest.mark.parametrize(
    ("resolution", "alpha"), [(2, 1), (12, 1), (64, 1), (8, -0.1), (8, 1.1), (8, math.nan), (4, 0)]
)
def test_an_invalid_growth_is_refused(resolution: int, alpha: float) -> None:
    generator = build_generator(network_config())
    with pytest.raises(ValueError, match=r"resolution|alpha"):
        generator.set_growth(resolution, alpha)
    assert (generator.resolution, generator.alpha) == (32, 1.0)


def test_images_of_another_resolution_are_refused() -> None:
    discriminator = build_discriminator(network_config())
    discriminator.set_growth(16, 1.0)
    with pytest.raises(ValueError, match=r"\(32, 32\).*16"):
        discriminator(torch.zeros(1, 3, 32, 32))


def test_the_state_does_not_contain_the_growth() -> None:
    generator = build_generator(network_config())
    before = generator.state_dict().keys()
    generator.set_growth(8, 0.5)
    assert generator.state_dict().keys() == before


@pytest.mark.parametrize("resolution", [4, 8, 16, 32, 64, 128, 256, 512, 1024])
def test_initial_images_of_the_papers_generator_have_a_deviation_of_about_1(resolution: int) -> None:
    # Pixel-normed features times N(0, 1) weights over their root: the expected square is exactly 1, whatever the stage.
    # 32 images of 3 colours are 96 draws: their mean square varies by sqrt(2 / 96) = 14%, its root by 7%.
    squares = []
    for _ in range(32):
        generator = build_generator(network_config(size=max(resolution, 8), width=1 / 32))
        generator.set_growth(resolution, 1.0)
        with torch.no_grad():
            squares.append(generator(latents(1)).square().mean())
    assert torch.stack(squares).mean().sqrt().item() == pytest.approx(1, abs=0.25)  # 3.5 times 7%


def test_equalised_weights_are_standard_normal_and_biases_0() -> None:
    for network in (build_generator(network_config(width=0.25)), build_discriminator(network_config(width=0.25))):
        layers = [layer for layer in network.modules() if isinstance(layer, EqualisedConv2d | EqualisedLatentLayer)]
        weights = torch.cat([layer.weight.flatten() for layer in layers])
        assert weights.mean().item() == pytest.approx(0, abs=0.01)
        assert weights.std().item() == pytest.approx(1, abs=0.01)
        assert not any(layer.bias.any() for layer in layers)


def test_the_output_spread_of_equalised_layers_is_their_gain() -> None:
    ones = torch.ones(4, 256, 3, 3)
    for gain in (1.0, math.sqrt(2)):
        outputs = EqualisedConv2d(256, 512, 3, gain=gain)(ones)  # each a sum of 256 * 9 weights
        assert outputs.std().item() == pytest.approx(gain, rel=0.15)
    stem = EqualisedLatentLayer(512, 512)(torch.randn(4, 512, 1, 1))
    assert stem.std().item() == pytest.approx(math.sqrt(2) / 4, rel=0.05)


def test_pixel_norm_is_before_the_activation_only_in_the_anime_generator() -> None:
    for name, first, second in (("pggan", "LeakyReLU", "PixelNorm"), ("pggan-anime128", "PixelNorm", "LeakyReLU")):
        blocks = build_generator(network_config(name)).blocks
        for block, normed in zip(blocks, ("EqualisedLatentLayer", *["EqualisedConv2d"] * 3), strict=True):
            kinds = [type(layer).__name__ for layer in block.children()]
            assert kinds[2 if block is blocks[0] else 1 :] == [normed, first, second, "EqualisedConv2d", first, second]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_the_gradient_of_a_gradient_penalty_is_right(name: str, alpha: float) -> None:
    discriminator = build_discriminator(network_config(name, size=8)).double()
    discriminator.set_growth(8, alpha)
    points = torch.randn(5, 3, 8, 8, dtype=torch.float64, requires_grad=True)

    def penalty() -> Tensor:
        (gradients,) = torch.autograd.grad(discriminator(points).sum(), points, create_graph=True)
        norms: Tensor = torch.linalg.vector_norm(gradients.flatten(1), dim=1)
        return (norms - 1).square().mean()

    penalty().backward()  # type: ignore[no-untyped-call]
    weights = [value for key, value in discriminator.named_parameters() if key.endswith("weight")]
    reached = [value for value in weights if value.grad is not None]
    unused = {1.0: 1, 0.5: 0}[alpha]  # the fromRGB of 4x4
    assert len(weights) - len(reached) == unused
    directions = [torch.randn_like(value) for value in reached]
    slopes = [
        (value.grad * way).sum() for value, way in zip(reached, directions, strict=True) if value.grad is not None
    ]
    step = 1e-6
    sides = []
    with torch.no_grad():
        for sign in (1, -2):
            for value, way in zip(reached, directions, strict=True):
                value.add_(sign * step * way)
            with torch.enable_grad():
                sides.append(penalty().detach())
    assert all(slopes)
    torch.testing.assert_close(torch.stack(slopes).sum(), (sides[0] - sides[1]) / (2 * step), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "end", "group_rows"), [("pggan", EqualisedConv2d, 4), ("pggan-anime128", nn.Conv2d, None)]
)
def test_the_two_architectures_differ_in_these_layers(name: str, end: type[nn.Module], group_rows: int | None) -> None:
    generator, discriminator = build_generator(network_config(name)), build_discriminator(network_config(name))
    assert all(type(layer) is end for layer in generator.to_rgb)
    for way in discriminator.from_rgb:
        kinds = [type(layer) for layer in way.modules() if layer is not way or not isinstance(way, nn.Sequential)]
        assert kinds == ([end, nn.LeakyReLU] if name == "pggan" else [end])
    last = [*discriminator.blocks[0].children()]
    assert isinstance(last[0], MinibatchStd)
    assert last[0].group_rows == group_rows
    assert type(last[-2]) is end
    activations = [
        layer for layer in (*generator.modules(), *discriminator.modules()) if isinstance(layer, nn.LeakyReLU)
    ]
    assert {layer.negative_slope for layer in activations} == {0.2}
