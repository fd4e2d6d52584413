"""Folds each BatchNorm into the layer before it, for a generator in eval mode.

A folded layer computes the same function with fewer passes over memory.
"""

from __future__ import annotations

import contextlib
import copy

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_weights

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_FOLDABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fold_batch_norms(generator: nn.Module) -> nn.Module:
    """Returns a copy of `generator`, in eval mode, with BatchNorm folded inside each `nn.Sequential`.

    A folded BatchNorm becomes an `nn.Identity`, so that indices into the Sequential stay valid. Not folded: BatchNorm
    after anything but a convolution, transposed convolution or linear layer, after a grouped transposed convolution,
    without running statistics, or with a forward of its own; and layers with hooks.
    """
    folded = copy.deepcopy(generator).eval()
    for module in list(folded.modules()):
        # Turn spectral and weight norm, in both styles, into plain weights: a graph would compute them in every call.
        for remove in (nn.utils.remove_spectral_norm, nn.utils.remove_weight_norm):
            with contextlib.suppress(ValueError):  # the module has no such norm
                remove(module)
        if parametrize.is_parametrized(module):
            _bake_parametrizations(module)
    for module in list(folded.modules()):
        # A subclass with its own forward may call its layers in another order.
        if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            for index in range(len(module) - 1):
                layer, batch_norm = module[index], module[index + 1]
                if isinstance(batch_norm, _BATCH_NORMS) and (fused := _fold(layer, batch_norm)) is not None:
                    module[index], module[index + 1] = fused, nn.Identity()
    return folded


def _bake_parametrizations(module: nn.Module) -> None:
    """Replaces parametrized tensors by their values.

    Not with `remove_parametrizations`, which changes the class that a copy shares with its original.
    """
    parametrizations = module.parametrizations
    assert isinstance(parametrizations, nn.ModuleDict)
    values = {name: getattr(module, name).detach() for name in parametrizations}
    del module.parametrizations
    module.__class__ = module.__class__.__bases__[0]  # the class before it was parametrized
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value))


def count_batch_norms(module: nn.Module) -> int:
    """The number of BatchNorm layers in the module."""
    return sum(isinstance(child, _BATCH_NORMS) for child in module.modules())


def _fold(layer: nn.Module, batch_norm: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) -> nn.Module | None:
    """Returns a new layer that computes both, or None if they cannot be folded."""
    if batch_norm.running_mean is None or batch_norm.running_var is None:
        return None
    if any(module._forward_hooks or module._forward_pre_hooks for module in (layer, batch_norm)):
        return None
    # A subclass may compute something else.
    if type(batch_norm).forward is not _BatchNorm.forward:
        return None
    if type(layer) not in _FOLDABLE or (isinstance(layer, _TRANSPOSED) and layer.groups != 1):
        return None
    assert isinstance(layer, _FOLDABLE)
    outputs = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    if outputs != batch_norm.num_features:
        return None
    folded = copy.deepcopy(layer)  # the network may also use this layer elsewhere, without the BatchNorm
    folded.weight, folded.bias = fuse_conv_bn_weights(
        layer.weight,
        layer.bias,
        batch_norm.running_mean,
        batch_norm.running_var,
        batch_norm.eps,
        batch_norm.weight,
        batch_norm.bias,
        transpose=isinstance(layer, _TRANSPOSED),
    )
    return folded
