"""Generators after StyleGAN, ProGAN, BigGAN and TransGAN."""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class EqualLinear(nn.Module):
    """A linear layer whose weights are scaled at run time."""

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.bias = nn.Parameter(torch.full((outputs,), bias))
        self.scale = 1 / math.sqrt(inputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias)


class ModulatedConv(nn.Module):
    """A convolution whose weights are scaled per row by a style, in one grouped convolution or in two scalings."""

    def __init__(self, inputs: int, outputs: int, kernel: int, style: int, *, demodulate: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, outputs, inputs, kernel, kernel))
        self.scale = 1 / math.sqrt(inputs * kernel**2)
        self.modulation = EqualLinear(style, inputs, bias=1.0)
        self.demodulate = demodulate
        self.padding = kernel // 2

    def forward(self, x: Tensor, style: Tensor, *, fused: bool = True) -> Tensor:
        batch, channels, height, width = x.shape
        styles = self.modulation(style).view(batch, 1, channels, 1, 1)
        weight = self.scale * self.weight * styles
        if self.demodulate:
            strength = torch.rsqrt(weight.pow(2).sum([2, 3, 4]) + 1e-8)
            weight = weight * strength.view(batch, -1, 1, 1, 1)
        if fused:
            weight = weight.view(-1, channels, *weight.shape[3:])
            out = F.conv2d(x.reshape(1, -1, height, width), weight, padding=self.padding, groups=batch)
            return out.view(batch, -1, height, width)
        out = F.conv2d(x * styles.view(batch, channels, 1, 1), self.scale * self.weight[0], padding=self.padding)
        return out * strength.view(batch, -1, 1, 1) if self.demodulate else out


class Blur(nn.Module):
    """Doubles the size, and smooths with a fixed kernel, a buffer."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("kernel", 4 * taps[:, None] * taps[None, :] / taps.sum() ** 2)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        x = x.view(batch, channels, height, 1, width, 1)
        x = F.pad(x, [0, 1, 0, 0, 0, 1]).view(batch, channels, height * 2, width * 2)
        x = F.pad(x, [2, 1, 2, 1])
        return F.conv2d(x, self.kernel[None, None].repeat(channels, 1, 1, 1), groups=channels)


class StyledConv(nn.Module):
    """A modulated convolution, noise, bias and leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, style: int, *, upsample: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, 3, style)
        self.blur = Blur() if upsample else nn.Identity()
        self.noise_weight = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(1, outputs, 1, 1))

    def forward(self, x: Tensor, style: Tensor, noise: Tensor, *, fused: bool) -> Tensor:
        out = self.blur(self.conv(x, style, fused=fused)) + self.noise_weight * noise
        return F.leaky_relu(out + self.bias, 0.2) * math.sqrt(2)


class StyleGenerator(nn.Module):
    """StyleGAN2: a mapping network, styled convolutions with noise buffers, and RGB skips; returns (images, None)."""

    def __init__(self, style: int = 16, width: int = 8, sizes: tuple[int, ...] = (4, 8, 16)) -> None:
        super().__init__()
        self.style = nn.ModuleList([EqualLinear(style, style), EqualLinear(style, style)])
        self.input = nn.Parameter(torch.randn(1, width, 4, 4))
        self.convs = nn.ModuleList([StyledConv(width, width, style, upsample=size > 4) for size in sizes])
        self.to_rgbs = nn.ModuleList([ModulatedConv(width, 3, 1, style, demodulate=False) for _ in sizes])
        self.up = Blur()
        self.noises = nn.Module()
        for index, size in enumerate(sizes):
            self.noises.register_buffer(f"noise_{index}", torch.randn(1, 1, size, size))

    def forward(
        self, z: Tensor, return_latents: bool = False, randomize_noise: bool = True, fused_modconv: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        latent = z * torch.rsqrt(torch.mean(z**2, dim=1, keepdim=True) + 1e-8)
        for layer in self.style:
            latent = F.leaky_relu(layer(latent), 0.2)
        out, skip = self.input.repeat(latent.shape[0], 1, 1, 1), None
        for index, (conv, to_rgb) in enumerate(zip(self.convs, self.to_rgbs, strict=True)):
            noise = self.noises.get_buffer(f"noise_{index}")
            if randomize_noise:
                noise = torch.randn(len(z), *noise.shape[1:])
            out = conv(out, latent, noise, fused=fused_modconv)
            rgb = to_rgb(out, latent, fused=fused_modconv)
            skip = rgb if skip is None else rgb + self.up(skip)
        assert skip is not None
        return skip, latent if return_latents else None


class AdaptiveNorm(nn.Module):
    """Instance norm with scale and shift from a style."""

    def __init__(self, width: int, style: int) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(width)
        self.affine = nn.Linear(style, 2 * width)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        scale, shift = self.affine(style)[:, :, None, None].chunk(2, 1)
        return cast(Tensor, (1 + scale) * self.norm(x) + shift)


class AdaptiveNormGenerator(nn.Module):
    """StyleGAN: a learned constant, AdaIN and truncation towards a running mean of the styles."""

    mean_style: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.mapping = nn.Sequential(nn.Linear(20, 16), nn.LeakyReLU(0.2), nn.Linear(16, 16))
        self.register_buffer("mean_style", torch.randn(16))
        self.constant = nn.Parameter(torch.randn(1, 8, 4, 4))
        self.convs = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))
        self.norms = nn.ModuleList(AdaptiveNorm(8, 16) for _ in range(3))
        self.to_rgb = nn.Conv2d(8, 3, 1)

    def forward(self, z: Tensor, psi: float = 1.0) -> dict[str, Tensor]:
        style = self.mean_style + psi * (self.mapping(z) - self.mean_style)
        x = self.constant.expand(z.shape[0], -1, -1, -1)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = norm(F.leaky_relu(conv(x), 0.2), style)
        return {"w": style, "image": torch.tanh(self.to_rgb(x))}


class ScaledConv(nn.Module):
    """A convolution with equalized learning rate."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, padding: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=padding)
        self.scale = math.sqrt(2 / (inputs * kernel**2))

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.conv(x * self.scale))


class PixelNorm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / torch.sqrt(torch.mean(x**2, dim=1, keepdim=True) + 1e-8)


class ProgressiveGenerator(nn.Module):
    """ProGAN: forward(z, step, alpha) grows by steps and fades new ones in."""

    def __init__(self, width: int = 8, steps: int = 3) -> None:
        super().__init__()
        self.initial = nn.Sequential(PixelNorm(), nn.ConvTranspose2d(20, width, 4), nn.LeakyReLU(0.2), PixelNorm())
        self.blocks = nn.ModuleList(
            nn.Sequential(ScaledConv(width, width), nn.LeakyReLU(0.2), PixelNorm()) for _ in range(steps)
        )
        self.to_rgb = nn.ModuleList(ScaledConv(width, 3, 1, 0) for _ in range(steps + 1))

    def forward(self, z: Tensor, step: int, alpha: float) -> Tensor:
        out = self.initial(z[:, :, None, None])
        upsampled = out
        for block in self.blocks[:step]:
            upsampled = F.interpolate(out, scale_factor=2, mode="nearest")
            out = block(upsampled)
        if step == 0:
            return cast(Tensor, self.to_rgb[0](out))
        faded = alpha * self.to_rgb[step](out) + (1 - alpha) * self.to_rgb[step - 1](upsampled)
        return torch.tanh(faded)


class ConditionalNorm(nn.Module):
    """BatchNorm with scale and shift from a vector."""

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(width, affine=False)
        self.gain = spectral_norm(nn.Linear(condition, width, bias=False))
        self.bias = spectral_norm(nn.Linear(condition, width, bias=False))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        gain = (1 + self.gain(condition)).view(condition.size(0), -1, 1, 1)
        bias = self.bias(condition).view(condition.size(0), -1, 1, 1)
        return cast(Tensor, self.bn(x) * gain + bias)


class ConditionalBlock(nn.Module):
    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.bn1, self.bn2 = ConditionalNorm(width, condition), ConditionalNorm(width, condition)
        self.conv1 = spectral_norm(nn.Conv2d(width, width, 3, padding=1))
        self.conv2 = spectral_norm(nn.Conv2d(width, width, 3, padding=1))
        self.conv_sc = spectral_norm(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = F.interpolate(F.relu(self.bn1(x, condition)), scale_factor=2)
        h = self.conv2(F.relu(self.bn2(self.conv1(h), condition)))
        return cast(Tensor, h + self.conv_sc(F.interpolate(x, scale_factor=2)))


class BigGenerator(nn.Module):
    """BigGAN: a shared embedding, latents split over the blocks, conditional BatchNorm, spectral norm, attention."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.shared = nn.Embedding(10, 8)
        self.linear = spectral_norm(nn.Linear(8, width * 16))
        self.blocks = nn.ModuleList(ConditionalBlock(width, 8 + 6) for _ in range(2))
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(), spectral_norm(nn.Conv2d(width, 3, 3, padding=1))
        )

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        first, *rest = torch.split(z, [8, 6, 6], 1)
        embedded = self.shared(y)
        h = self.linear(first).view(z.size(0), -1, 4, 4)
        for block, part in zip(self.blocks, rest, strict=True):
            h = block(h, torch.cat([embedded, part], 1))
        tokens = h.flatten(2).transpose(1, 2)
        attended = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        h = h + attended.transpose(1, 2).reshape(h.shape)
        return torch.tanh(self.output_layer(h))


class TransformerGenerator(nn.Module):
    """TransGAN: tokens through transformer layers, pixel shuffle between the stages; returns channels last."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.l1 = nn.Linear(20, 16 * width)
        self.pos_embed = nn.Parameter(torch.randn(1, 16, width))
        layer = nn.TransformerEncoderLayer(width, 2, 32, dropout=0.1, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.deconv = nn.Linear(width // 16, 3)

    def forward(self, noise: Tensor) -> Tensor:
        x = self.l1(noise).view(noise.shape[0], 16, -1) + self.pos_embed
        x = self.blocks(x)
        x = F.pixel_shuffle(x.permute(0, 2, 1).view(noise.shape[0], -1, 4, 4), 4)
        return torch.tanh(self.deconv(x.permute(0, 2, 3, 1)))
