"""Networks from images to images."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ResnetBlock(nn.Module):
    def __init__(self, dim: int, norm_layer: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            *(nn.ReflectionPad2d(1), nn.Conv2d(dim, dim, 3), norm_layer(dim), nn.ReLU(True)),
            *(nn.ReflectionPad2d(1), nn.Conv2d(dim, dim, 3), norm_layer(dim)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.conv_block(x))


class ResnetTranslator(nn.Module):
    """CycleGAN: reflection padding, instance norm, residual blocks, transposed convolutions."""

    def __init__(self, ngf: int = 8, n_blocks: int = 2) -> None:
        super().__init__()
        norm_layer = functools.partial(nn.InstanceNorm2d, affine=False, track_running_stats=False)
        model: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(3, ngf, 7), norm_layer(ngf), nn.ReLU(True)]
        for multiple in (1, 2):
            inputs = ngf * multiple
            model += [nn.Conv2d(inputs, inputs * 2, 3, stride=2, padding=1), norm_layer(inputs * 2), nn.ReLU(True)]
        model += [ResnetBlock(ngf * 4, norm_layer) for _ in range(n_blocks)]
        for multiple in (4, 2):
            inputs = ngf * multiple
            model += [
                nn.ConvTranspose2d(inputs, inputs // 2, 3, stride=2, padding=1, output_padding=1),
                *(norm_layer(inputs // 2), nn.ReLU(True)),
            ]
        model += [nn.ReflectionPad2d(3), nn.Conv2d(ngf, 3, 7), nn.Tanh()]
        self.model = nn.Sequential(*model)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # as public code names it
        return cast(Tensor, self.model(input))


class SkipBlock(nn.Module):
    """One level of a U-Net around the next."""

    def __init__(
        self, outer: int, inner: int, submodule: nn.Module | None, norm_layer: type[nn.Module], *, outermost: bool
    ) -> None:
        super().__init__()
        self.outermost = outermost
        down: list[nn.Module] = [nn.Conv2d(3 if outermost else outer, inner, 4, 2, 1, bias=False)]
        if not outermost:
            down.insert(0, nn.LeakyReLU(0.2, True))
        if submodule is not None and not outermost:
            down.append(norm_layer(inner))
        below = [] if submodule is None else [submodule]
        up: list[nn.Module] = [
            nn.ReLU(True),
            nn.ConvTranspose2d(inner if submodule is None else 2 * inner, outer, 4, 2, 1, bias=outermost),
        ]
        up += [nn.Tanh()] if outermost else [norm_layer(outer), nn.Dropout(0.5)]
        self.model = nn.Sequential(*down, *below, *up)

    def forward(self, x: Tensor) -> Tensor:
        out = cast(Tensor, self.model(x))
        return out if self.outermost else torch.cat([x, out], 1)


class UnetTranslator(nn.Module):
    """pix2pix: a U-Net with BatchNorm and dropout."""

    def __init__(self, ngf: int = 8, norm_layer: type[nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        block: nn.Module | None = None
        for outer, inner in ((ngf * 2, ngf * 4), (ngf, ngf * 2)):
            block = SkipBlock(outer, inner, block, norm_layer, outermost=False)
        self.model = SkipBlock(3, ngf, block, norm_layer, outermost=True)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # as public code names it
        return cast(Tensor, self.model(input))


class PerImageNorm(nn.BatchNorm2d):
    """BatchNorm in train mode for a batch of one image, as pix2pix samples."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the name in the base class
        return F.instance_norm(input, weight=self.weight, bias=self.bias, eps=self.eps)


class PerImageUnet(UnetTranslator):
    """The subclass that an importer of pix2pix writes."""

    def __init__(self) -> None:
        super().__init__(norm_layer=PerImageNorm)


class DomainTranslator(nn.Module):
    """StarGAN: forward(x, c) repeats the one-hot domain over all positions; instance norm with statistics."""

    def __init__(self, conv_dim: int = 8, c_dim: int = 3) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(3 + c_dim, conv_dim, 7, padding=3, bias=False),
            *(nn.InstanceNorm2d(conv_dim, affine=True, track_running_stats=True), nn.ReLU(inplace=True)),
            nn.Conv2d(conv_dim, 2 * conv_dim, 4, stride=2, padding=1, bias=False),
            *(nn.InstanceNorm2d(2 * conv_dim, affine=True, track_running_stats=True), nn.ReLU(inplace=True)),
            nn.ConvTranspose2d(2 * conv_dim, 3, 4, stride=2, padding=1, bias=False),
            nn.Tanh(),
        )

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        c = c.view(c.size(0), c.size(1), 1, 1)
        c = c.repeat(1, 1, x.size(2), x.size(3))
        return cast(Tensor, self.main(torch.cat([x, c], dim=1)))


class LayerInstanceNorm(nn.Module):
    """U-GAT-IT's AdaLIN: a learned mixture of instance norm and layer norm, with scale and shift from the image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.rho = nn.Parameter(torch.full((1, width, 1, 1), 0.9))

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        instance = (x - x.mean([2, 3], keepdim=True)) / torch.sqrt(x.var([2, 3], keepdim=True) + 1e-5)
        layer = (x - x.mean([1, 2, 3], keepdim=True)) / torch.sqrt(x.var([1, 2, 3], keepdim=True) + 1e-5)
        out = self.rho * instance + (1 - self.rho) * layer
        return out * gamma[:, :, None, None] + beta[:, :, None, None]


class AttentiveTranslator(nn.Module):
    """U-GAT-IT: class activation maps and AdaLIN; returns (images, logits, heatmap)."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(3, width, 4, 2), nn.InstanceNorm2d(width), nn.ReLU())
        self.gap_fc = nn.Linear(width, 1, bias=False)
        self.gmp_fc = nn.Linear(width, 1, bias=False)
        self.conv1x1 = nn.Conv2d(2 * width, width, 1)
        self.gamma, self.beta = nn.Linear(width, width), nn.Linear(width, width)
        self.norm = LayerInstanceNorm(width)
        self.up = nn.Sequential(nn.Upsample(scale_factor=2), nn.ReflectionPad2d(1), nn.Conv2d(width, 3, 3), nn.Tanh())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.down(x)
        average = F.adaptive_avg_pool2d(x, 1)
        largest = F.adaptive_max_pool2d(x, 1)
        logits = torch.cat([self.gap_fc(average.view(x.shape[0], -1)), self.gmp_fc(largest.view(x.shape[0], -1))], 1)
        weighted = [x * next(iter(fc.parameters()))[0][None, :, None, None] for fc in (self.gap_fc, self.gmp_fc)]
        x = F.relu(self.conv1x1(torch.cat(weighted, 1)))
        heatmap = x.sum(dim=1, keepdim=True)
        style = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return self.up(F.relu(self.norm(x, self.gamma(style), self.beta(style)))), logits, heatmap


class DenseBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(2 * width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        first = F.leaky_relu(self.conv1(x), 0.2)
        return cast(Tensor, self.conv2(torch.cat((x, first), 1))) * 0.2 + x


class SuperResolver(nn.Module):
    """SRGAN and ESRGAN: PReLU, dense blocks, pixel shuffle; images of twice the size, in 0 .. 1."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, width, 9, padding=4), nn.PReLU())
        self.blocks = nn.Sequential(DenseBlock(width), DenseBlock(width))
        self.upsample = nn.Sequential(nn.Conv2d(width, width * 4, 3, padding=1), nn.PixelShuffle(2), nn.PReLU())
        self.conv3 = nn.Conv2d(width, 3, 9, padding=4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(x)
        return (torch.tanh(self.conv3(self.upsample(h + self.blocks(h)))) + 1) / 2
