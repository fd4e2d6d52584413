"""Small generators and translators for the exporter's tests."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

LATENT_DIM = 6


class TutorialGenerator(nn.Module):
    """8 x 8 images from latents (N, LATENT_DIM, 1, 1), in the style of DCGAN code."""

    def __init__(self, width: int = 4, channels: int = 3) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(LATENT_DIM, width, 4, 1, 0, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(True),
            nn.ConvTranspose2d(width, channels, 4, 2, 1, bias=False),
            nn.Tanh(),
        )

    def forward(self, latents: Tensor) -> Tensor:
        return cast(Tensor, self.main(latents))


class FlatGenerator(nn.Module):
    """4 x 4 grey images from latents (N, LATENT_DIM)."""

    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(nn.Linear(LATENT_DIM, 16), nn.BatchNorm1d(16, 0.8), nn.Tanh())

    def forward(self, latents: Tensor) -> Tensor:
        return cast(Tensor, self.main(latents).view(-1, 1, 4, 4))


class FixedBatchGenerator(FlatGenerator):
    """Its batch size becomes a constant when it is traced."""

    def forward(self, latents: Tensor) -> Tensor:
        return cast(Tensor, self.main(latents).view(len(latents), 1, 4, 4))


class OneByOneGenerator(FlatGenerator):
    """Skips its BatchNorm, which folding cannot detect."""

    def forward(self, latents: Tensor) -> Tensor:
        return cast(Tensor, self.main[2](self.main[0](latents)).view(-1, 1, 4, 4))


class BranchingGenerator(FlatGenerator):
    """Branches on the values of its input, which a graph cannot express."""

    def forward(self, latents: Tensor) -> Tensor:
        images = super().forward(latents)
        return images if latents.sum() > 0 else -images


class NoisyGenerator(FlatGenerator):
    def forward(self, latents: Tensor) -> Tensor:
        return super().forward(latents + torch.randn_like(latents))


class BatchStatisticsGenerator(FlatGenerator):
    def __init__(self) -> None:
        super().__init__()
        self.main[1] = nn.BatchNorm1d(16, track_running_stats=False)


class FunctionalNorm(nn.Module):
    """Batch norm by the function, with statistics of its own."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.batch_norm(images, self.running_mean, self.running_var, training=self.training)


class TwiceUsedNorm(TutorialGenerator):
    """Runs its batch norm twice, and has another that it never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.BatchNorm2d(9)

    def forward(self, latents: Tensor) -> Tensor:
        hidden = self.main[1](self.main[1](self.main[0](latents)))
        return cast(Tensor, self.main[4](self.main[3](hidden)))


class NanGenerator(FlatGenerator):
    def forward(self, latents: Tensor) -> Tensor:
        return super().forward(latents) * float("nan")


class ByteRangeGenerator(FlatGenerator):
    """Images in 0 .. 255."""

    def forward(self, latents: Tensor) -> Tensor:
        return (super().forward(latents) + 1) * 127.5


class FiveChannelGenerator(TutorialGenerator):
    def __init__(self) -> None:
        super().__init__(channels=5)


class HalfPrecisionGenerator(FlatGenerator):
    def forward(self, latents: Tensor) -> Tensor:
        return super().forward(latents).half()


class FloatOnlyGenerator(FlatGenerator):
    """Casts to float32, so it does not run in another precision."""

    def forward(self, latents: Tensor) -> Tensor:
        return super().forward(latents.float())


class ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            nn.InstanceNorm2d(width),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            nn.InstanceNorm2d(width),
        )

    def forward(self, maps: Tensor) -> Tensor:
        return maps + cast(Tensor, self.main(maps))


class ResNetTranslator(nn.Module):
    """Images to images of the same size, a multiple of 4, in the style of CycleGAN code; upsamples in two ways."""

    def __init__(self, width: int = 4, channels: int = 3) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.ReflectionPad2d(3),
            nn.Conv2d(channels, width, 7),
            *(nn.InstanceNorm2d(width), nn.ReLU(True)),
            nn.Conv2d(width, 2 * width, 3, 2, 1),
            *(nn.InstanceNorm2d(2 * width), nn.ReLU(True)),
            nn.Conv2d(2 * width, 4 * width, 3, 2, 1),
            *(nn.InstanceNorm2d(4 * width), nn.ReLU(True)),
            ResidualBlock(4 * width),
            ResidualBlock(4 * width),
            nn.ConvTranspose2d(4 * width, 2 * width, 3, 2, 1, 1),
            *(nn.InstanceNorm2d(2 * width), nn.ReLU(True)),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(2 * width, width, 3, padding=1),
            *(nn.InstanceNorm2d(width), nn.ReLU(True)),
            nn.ReflectionPad2d(3),
            nn.Conv2d(width, channels, 7),
            nn.Tanh(),
        )

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.main(images))


class InverseTranslator(nn.Module):
    """The negative of a picture with values in value_min .. value_max."""

    def __init__(self, total: float = 0.0) -> None:
        super().__init__()
        self.total = nn.Parameter(torch.tensor(total))  # value_min + value_max

    def forward(self, images: Tensor) -> Tensor:
        return self.total - images.view(images.shape)  # view, which refuses strided tensors


class BatchMeanTranslator(nn.Module):
    """Each image depends on the others in the batch."""

    def forward(self, images: Tensor) -> Tensor:
        return images - images.mean(0, keepdim=True)


class RowDroppingTranslator(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images[1:]


class BrokenGenerator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        raise RuntimeError("first line\nsecond line")


def randomise(module: nn.Module) -> nn.Module:
    """Gives every BatchNorm statistics and scales like those after training; returns the module in eval mode."""
    draw = torch.Generator().manual_seed(1)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and layer.running_mean is not None:
            assert layer.running_var is not None
            layer.running_mean.normal_(generator=draw)
            layer.running_var.uniform_(0.3, 2.0, generator=draw)
            if layer.affine:
                nn.init.normal_(layer.weight, generator=draw)
                nn.init.normal_(layer.bias, generator=draw)
    return module.eval()
