"""Folds every BatchNorm it can into the layer before it, for a generator in eval mode.

A folded layer computes the same function with fewer passes over memory. Knows modules only: no files, no export format.
"""

from __future__ import annotations

import contextlib
import copy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_FOLDABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fold_batch_norms(generator: nn.Module) -> nn.Module:
    """Returns a copy of `generator`, in eval mode, with BatchNorm folded away inside each `nn.Sequential`.

    A folded BatchNorm becomes an `nn.Identity`, so that indices into the Sequential still hold. Left as they are:
    BatchNorm after anything but a plain convolution, transposed convolution or linear layer, after a grouped transposed
    convolution, or without running statistics; and layers with hooks or parametrizations.
    """
    folded = copy.deepcopy(generator).eval()
    for module in list(folded.modules()):
        _fix_computed_weights(module)
    for module in list(folded.modules()):
        # A subclass may walk its layers in another order, so its own forward must be the standard one.
        if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            _fold_sequential(module)
    return folded


def count_batch_norms(module: nn.Module) -> int:
    """How many BatchNorm layers the module holds."""
    return sum(isinstance(child, _BATCH_NORMS) for child in module.modules())


def _fix_computed_weights(module: nn.Module) -> None:
    """Replaces weights that a hook sets in every forward (old spectral and weight norm) by their values.

    ONNX export refuses such hooks. It takes parametrizations, and removing one would break the original: a copy has
    the same class.
    """
    for remove in (nn.utils.remove_spectral_norm, nn.utils.remove_weight_norm):
        with contextlib.suppress(ValueError):  # it has none
            remove(module)


def _fold_sequential(sequential: nn.Sequential) -> None:
    for index in range(len(sequential) - 1):
        layer, batch_norm = sequential[index], sequential[index + 1]
        if not isinstance(batch_norm, _BATCH_NORMS):
            continue
        folded = _fold(layer, batch_norm)
        if folded is not None:
            sequential[index], sequential[index + 1] = folded, nn.Identity()


def _fold(layer: nn.Module, batch_norm: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) -> nn.Module | None:
    """Returns a new layer that computes both, or None where that is not possible."""
    if batch_norm.running_mean is None or batch_norm.running_var is None:
        return None
    if _is_hooked(layer) or _is_hooked(batch_norm):
        return None
    # Exact types: a subclass may compute something else, and a parametrized layer has a class of its own.
    if type(layer) not in _FOLDABLE or (isinstance(layer, _TRANSPOSED) and layer.groups != 1):
        return None
    assert isinstance(layer, _FOLDABLE)
    outputs = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    if outputs != batch_norm.num_features:
        return None
    folded = copy.deepcopy(layer)  # the same layer may also be used elsewhere, without this BatchNorm
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


def _is_hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)
