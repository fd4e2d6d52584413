"""Convolutional generators: DCGAN and its descendants."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm
from torch.nn.utils.parametrizations import weight_norm


class UpsamplingGenerator(nn.Module):
    """A linear layer, then nearest upsampling and convolutions; BatchNorm with eps 0.8."""

    def __init__(self, init_size: int = 8) -> None:
        super().__init__()
        self.init_size = init_size
        self.l1 = nn.Sequential(nn.Linear(20, 16 * init_size**2))
        self.conv_blocks = nn.Sequential(
            nn.BatchNorm2d(16),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(16, 16, 3, stride=1, padding=1),
            nn.BatchNorm2d(16, 0.8),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(16, 8, 3, stride=1, padding=1),
            nn.BatchNorm2d(8, 0.8),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(8, 3, 3, stride=1, padding=1),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        out = self.l1(z)
        out = out.view(out.shape[0], 16, self.init_size, self.init_size)
        return cast(Tensor, self.conv_blocks(out))


class AuxiliaryClassifierGenerator(UpsamplingGenerator):
    """Multiplies the noise by the embedding of a label."""

    def __init__(self) -> None:
        super().__init__(init_size=4)
        self.label_emb = nn.Embedding(10, 20)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(torch.mul(self.label_emb(labels), noise))


class InformationGenerator(nn.Module):
    """Takes noise, a one-hot label and a continuous code."""

    def __init__(self) -> None:
        super().__init__()
        self.l1 = nn.Linear(20 + 10 + 2, 16 * 4 * 4)
        self.body = nn.Sequential(nn.BatchNorm2d(16), nn.Upsample(scale_factor=4), nn.Conv2d(16, 1, 3, padding=1))

    def forward(self, noise: Tensor, labels: Tensor, code: Tensor) -> Tensor:
        out = self.l1(torch.cat((noise, labels, code), -1))
        return torch.tanh(self.body(out.view(out.shape[0], 16, 4, 4)))


class TransposedGenerator(nn.Module):
    """DCGAN: transposed convolutions from latents (N, nz, 1, 1)."""

    def __init__(self, nz: int = 20, ngf: int = 4) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(nz, ngf * 4, 4, 1, 0, bias=False),
            *(nn.BatchNorm2d(ngf * 4), nn.ReLU(True)),
            nn.ConvTranspose2d(ngf * 4, ngf * 2, 4, 2, 1, bias=False),
            *(nn.BatchNorm2d(ngf * 2), nn.ReLU(True)),
            nn.ConvTranspose2d(ngf * 2, ngf, 4, 2, 1, bias=False),
            *(nn.BatchNorm2d(ngf), nn.ReLU(True)),
            nn.ConvTranspose2d(ngf, 3, 4, 2, 1, bias=False),
            nn.Tanh(),
        )

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # as public code names it
        return cast(Tensor, self.main(input))


class UpBlock(nn.Module):
    """A residual block that doubles the size, with a learned shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.c2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.b1 = nn.BatchNorm2d(inputs)
        self.b2 = nn.BatchNorm2d(outputs)
        self.c_sc = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.interpolate(F.relu(self.b1(x)), scale_factor=2)
        h = self.c2(F.relu(self.b2(self.c1(h))))
        return cast(Tensor, h + self.c_sc(F.interpolate(x, scale_factor=2)))


class ResidualGenerator(nn.Module):
    """SNGAN: residual blocks with BatchNorm before the convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.l1 = nn.Linear(20, 4 * 4 * 16)
        self.block2 = UpBlock(16, 16)
        self.block3 = UpBlock(16, 8)
        self.block4 = UpBlock(8, 8)
        self.b5 = nn.BatchNorm2d(8)
        self.c5 = spectral_norm(nn.Conv2d(8, 3, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.l1(x).view(x.shape[0], -1, 4, 4)
        h = self.block4(self.block3(self.block2(h)))
        return torch.tanh(self.c5(F.relu(self.b5(h))))


class DepthToSpaceBlock(nn.Module):
    """Copies the channels four times, shuffles them into pixels, and adds a residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(width, width, 1)
        self.bn = nn.BatchNorm2d(width)
        self.conv = nn.Conv2d(width, 4 * width, 3, padding=1)
        self.depth_to_space = nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        up = self.depth_to_space(torch.cat([x, x, x, x], 1))
        return cast(Tensor, self.shortcut(up) + self.depth_to_space(self.conv(F.relu(self.bn(x)))))


class FlatResidualGenerator(nn.Module):
    """WGAN-GP's ResNet: the output is flat, as its training loop wants it."""

    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        self.dim = dim
        self.ln1 = nn.Linear(20, 4 * 4 * dim)
        self.blocks = nn.Sequential(*(DepthToSpaceBlock(dim) for _ in range(3)))
        self.bn = nn.BatchNorm2d(dim)
        self.conv1 = nn.Conv2d(dim, 3, 3, padding=1)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # as public code names it
        output = self.ln1(input.contiguous()).view(-1, self.dim, 4, 4)
        output = torch.tanh(self.conv1(F.relu(self.bn(self.blocks(output)))))
        return output.view(-1, 3 * 32 * 32)


class SelfAttention(nn.Module):
    """Attention between all positions; returns the attention map too."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query_conv = nn.Conv2d(width, width // 8, 1)
        self.key_conv = nn.Conv2d(width, width // 8, 1)
        self.value_conv = nn.Conv2d(width, width, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        batch, channels, width, height = x.size()
        query = self.query_conv(x).view(batch, -1, width * height).permute(0, 2, 1)
        key = self.key_conv(x).view(batch, -1, width * height)
        attention = torch.softmax(torch.bmm(query, key), dim=-1)
        value = self.value_conv(x).view(batch, -1, width * height)
        out = torch.bmm(value, attention.permute(0, 2, 1)).view(batch, channels, width, height)
        return self.gamma * out + x, attention


class AttentionGenerator(nn.Module):
    """SAGAN: spectral norm on transposed convolutions; returns images and attention maps."""

    def __init__(self) -> None:
        super().__init__()
        self.l1 = nn.Sequential(spectral_norm(nn.ConvTranspose2d(20, 16, 4)), nn.BatchNorm2d(16), nn.ReLU())
        self.l2 = nn.Sequential(spectral_norm(nn.ConvTranspose2d(16, 16, 4, 2, 1)), nn.BatchNorm2d(16), nn.ReLU())
        self.attn1 = SelfAttention(16)
        self.last = nn.Sequential(nn.ConvTranspose2d(16, 3, 4, 2, 1), nn.Tanh())

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        z = z.view(z.size(0), z.size(1), 1, 1)
        out, attention = self.attn1(self.l2(self.l1(z)))
        return self.last(out), attention


class GatedUpBlock(nn.Sequential):
    """Upsampling, a convolution with spectral norm, and a gated linear unit."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Upsample(scale_factor=2, mode="nearest"),
            spectral_norm(nn.Conv2d(inputs, outputs * 2, 3, 1, 1, bias=False)),
            nn.BatchNorm2d(outputs * 2),
            nn.GLU(dim=1),
        )


class SkipLayerExcitation(nn.Module):
    """Scales the channels of a large feature map by a small one."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.AdaptiveAvgPool2d(4),
            spectral_norm(nn.Conv2d(inputs, outputs, 4, 1, 0, bias=False)),
            nn.SiLU(),
            spectral_norm(nn.Conv2d(outputs, outputs, 1, 1, 0, bias=False)),
            nn.Sigmoid(),
        )

    def forward(self, small: Tensor, large: Tensor) -> Tensor:
        return cast(Tensor, large * self.main(small))


class NoiseInjection(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, feat: Tensor) -> Tensor:
        batch, _, height, width = feat.shape
        return feat + self.weight * torch.randn(batch, 1, height, width)


class LightweightGenerator(nn.Module):
    """FastGAN: gated blocks, skip-layer excitation and noise; returns images of two sizes in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.init = nn.Sequential(
            spectral_norm(nn.ConvTranspose2d(20, 32, 4, 1, 0, bias=False)), nn.BatchNorm2d(32), nn.GLU(dim=1)
        )
        self.feat_8 = GatedUpBlock(16, 16)
        self.noise = NoiseInjection()
        self.feat_16 = GatedUpBlock(16, 16)
        self.feat_32 = GatedUpBlock(16, 8)
        self.se_32 = SkipLayerExcitation(16, 8)
        self.to_16 = nn.Conv2d(16, 3, 1, 1, 0, bias=False)
        self.to_big = nn.Conv2d(8, 3, 3, 1, 1, bias=False)

    def forward(self, z: Tensor) -> list[Tensor]:
        feat_8 = self.noise(self.feat_8(self.init(z.view(z.shape[0], -1, 1, 1))))
        feat_16 = self.feat_16(feat_8)
        feat_32 = self.se_32(feat_8, self.feat_32(feat_16))
        return [torch.tanh(self.to_big(feat_32)), torch.tanh(self.to_16(feat_16))]


class QuietLightweightGenerator(LightweightGenerator):
    """The subclass that an importer writes: without the noise, which differs from call to call."""

    def __init__(self) -> None:
        super().__init__()
        self.noise.forward = lambda feat: feat  # type: ignore[method-assign]


class BoundaryEquilibriumDecoder(nn.Module):
    """BEGAN in the newer style: weight norm, GroupNorm, bilinear upsampling, and latents fed in again."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = weight_norm(nn.Linear(20, 8 * 8 * 8))
        self.conv1 = weight_norm(nn.Conv2d(16, 8, 3, padding=1))
        self.norm = nn.GroupNorm(2, 8)
        self.conv2 = nn.Conv2d(8, 3, 3, padding=1, padding_mode="reflect")
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)

    def forward(self, z: Tensor) -> Tensor:
        h0 = self.fc(z).reshape(z.shape[0], 8, 8, 8)
        h = F.elu(self.norm(self.conv1(torch.cat([F.mish(h0), h0], dim=1))))
        return cast(Tensor, self.conv2(self.up(h)).clamp(-1, 1))
