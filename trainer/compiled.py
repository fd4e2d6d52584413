"""Compiles networks with torch.compile, where that keeps what a step computes.

The networks are compiled in place: their classes, weights and checkpoints stay what they were.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache

import torch
from torch import nn

from trainer.config import AnyConfig, GanConfig
from trainer.distributed import world_size
from trainer.errors import UserError
from trainer.objectives import OBJECTIVES
from trainer.state import EMA_GENERATOR

# The gradient of their penalty is itself differentiated, which a compiled network cannot do.
_DIFFERENTIATED_TWICE = ("gradient-penalty", "divergence")


def check_compiler(device: torch.device) -> None:
    """Finds out before a run begins whether networks can be compiled at all.

    Raises:
        UserError: they cannot.
    """
    if world_size() > 1:
        raise UserError("--compile: layers that see the batches of all processes are not compiled; leave it out")
    reason = _trouble(device)
    if reason:
        raise UserError(
            f"--compile: PyTorch's compiler does not work here ({reason:.200}); install a C++ compiler, or leave it out"
        )


def names_to_compile(config: AnyConfig, names: Collection[str]) -> list[str]:
    """Those of a training's networks that a step runs, but for a critic whose penalty differentiates it twice."""
    constraint = OBJECTIVES[config.objective].constraint if isinstance(config, GanConfig) else None
    left_out = {EMA_GENERATOR, *(("discriminator",) if constraint in _DIFFERENTIATED_TWICE else ())}
    return [name for name in names if name not in left_out]


def compile_networks(config: AnyConfig, networks: Mapping[str, nn.Module]) -> None:
    """Has the networks compiled when they are called for the first time; every batch must have the same size."""
    for name in names_to_compile(config, networks):
        networks[name].compile(dynamic=False)


@cache
def _trouble(device: torch.device) -> str:
    """Why nothing can be compiled for a device, in a line; empty if it can."""
    try:
        torch.compile(torch.sin)(torch.zeros(8, device=device))
    except RuntimeError as error:  # as all of the compiler's own are
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ""
