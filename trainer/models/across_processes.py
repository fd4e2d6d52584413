"""Replacements for layers whose output for one row depends on the other rows, when several processes share a batch.

Each computes its rows of what the replaced layer computes on the full batch, with the same parameters, buffers and
names. In training mode they exchange tensors, so all processes must run them; in evaluation mode, each process can run
them alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainer.models.progressive_layers import MinibatchStd
from trainer.parallel import all_rows, own_rows, world_size


def across_processes(network: nn.Module) -> nn.Module:
    """Replaces these layers in place if several processes train; parameters and their names stay the same."""
    if world_size() > 1:
        for module in list(network.modules()):
            for name, child in list(module.named_children()):
                if (replace := _REPLACEMENTS.get(type(child))) is not None:
                    setattr(module, name, replace(child))
    return network


class SharedBatchNorm(_BatchNorm):
    """Batch normalisation with the statistics of the full batch; can be differentiated twice.

    nn.SyncBatchNorm refuses tensors on the CPU, and its gradient is not differentiable.
    """

    def _check_input_dim(self, _features: Tensor) -> None:
        """Accepts batches of vectors and of images."""

    def forward(self, features: Tensor) -> Tensor:
        """(N, C) or (N, C, H, W) -> the same shape; N rows of this process."""
        if not self.training:
            return super().forward(features)
        exact = features.to(torch.promote_types(features.dtype, torch.float32))
        dimensions = [0, *range(2, features.ndim)]
        # All processes have equally many values. So the total mean is the mean of their means, and the total variance
        # is the mean of their variances plus the variance of their means; nothing large is subtracted.
        own_variance, own_mean = torch.var_mean(exact, dimensions, correction=0)
        statistics = all_rows(torch.stack((own_mean, own_variance)).unsqueeze(0))  # (processes, 2, C)
        means, variances = statistics.unbind(1)
        mean = means.mean(0)
        variance = variances.mean(0) + (means - mean).square().mean(0)
        count = features.numel() // features.shape[1] * len(means)
        self._remember(mean.detach(), variance.detach() * count / max(1, count - 1))
        shape = (1, -1) + (1,) * (features.ndim - 2)
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = scale * self.weight
        normalised = (exact - mean.view(shape)) * scale.view(shape)
        if self.affine:
            normalised = normalised + self.bias.view(shape)
        return normalised.to(features.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


class SharedMinibatchStd(MinibatchStd):
    """Minibatch statistics of groups that may span several processes."""

    def spread(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> (N,); N rows of this process."""
        if not self.training or (self.group_rows is not None and len(features) % self.group_rows == 0):
            return super().spread(features)
        return own_rows(super().spread(all_rows(features)))


class SharedDropout(nn.Module):
    """Dropout that draws masks for the full batch, so that masks differ between processes but random states do not.

    On a CPU, the masks equal those of a single process.

    Args:
        share: of the values that are dropped.
        whole_maps: drop whole maps instead of single values.
    """

    def __init__(self, share: float, *, whole_maps: bool) -> None:
        super().__init__()
        self.share = share
        self.whole_maps = whole_maps

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, ...) -> the same shape; N rows of this process."""
        if not self.training:
            return features
        one_row = features.shape[1:2] + (1,) * (features.ndim - 2) if self.whole_maps else features.shape[1:]
        kept = features.new_empty(len(features) * world_size(), *one_row).bernoulli_(1 - self.share)
        return features * own_rows(kept).div_(1 - self.share)


def _batch_norm(layer: nn.Module) -> nn.Module:
    assert isinstance(layer, _BatchNorm)
    tracked = layer.track_running_stats
    shared = SharedBatchNorm(layer.num_features, layer.eps, layer.momentum, layer.affine, tracked, device="meta")
    shared.weight, shared.bias = layer.weight, layer.bias
    shared.running_mean, shared.running_var = layer.running_mean, layer.running_var
    shared.num_batches_tracked = layer.num_batches_tracked
    return shared.train(layer.training)


def _dropout(layer: nn.Module) -> nn.Module:
    assert isinstance(layer, nn.Dropout | nn.Dropout2d)
    return SharedDropout(layer.p, whole_maps=isinstance(layer, nn.Dropout2d)).train(layer.training)


def _minibatch_std(layer: nn.Module) -> nn.Module:
    assert isinstance(layer, MinibatchStd)
    return SharedMinibatchStd(layer.group_rows).train(layer.training)


_REPLACEMENTS: Final[dict[type[nn.Module], Callable[[nn.Module], nn.Module]]] = {
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.Dropout: _dropout,
    nn.Dropout2d: _dropout,
    MinibatchStd: _minibatch_std,
}
