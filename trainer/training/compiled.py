"""Compiles networks with torch.compile, where that keeps what a step computes.

The networks are compiled in place: their classes, weights and checkpoints stay what they were.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache

import torch
from torch import nn

from ganserve.foreign import first_line
from trainer.config import AnyConfig, GanConfig
from trainer.errors import UserError
from trainer.objectives import OBJECTIVES
from trainer.parallel import world_size
from trainer.runs.state import EMA_GENERATOR

# The gradient of their penalty is itself differentiated, which a compiled network cannot do.
_DIFFERENTIATED_TWICE = ("gradient-penalty", "divergence")


def check_compiler(device: torch.device) -> None:
    """Finds out before a run begins whether networks can be compiled at all.

    Raises:
        UserError: they cannot.
    """
    if world_size() > 1:
        raise UserError("--compile: layers that see the batches of all processes are not compiled; give --no-compile")
    reason = _trouble(device)
    if reason:
        raise UserError(
            f"--compile: PyTorch's compiler does not work here ({reason:.200});"
            " install a C++ compiler, or give --no-compile"
        )


def names_to_compile(config: AnyConfig, names: Collection[str]) -> list[str]:
    """Those of a training's networks that a step runs, but for a critic whose penalty differentiates it twice."""
    constraint = OBJECTIVES[config.objective].constraint if isinstance(config, GanConfig) else None
    left_out = {EMA_GENERATOR, *(("discriminator",) if constraint in _DIFFERENTIATED_TWICE else ())}
    return [name for name in names if name not in left_out]


def compile_networks(config: AnyConfig, networks: Mapping[str, nn.Module]) -> None:
    """Has the networks compiled when they are called for the first time; every batch must have the same size.

    What was compiled before is forgotten: PyTorch keeps few versions, and then goes on uncompiled without a word.
    """
    torch.compiler.reset()
    for name in names_to_compile(config, networks):
        networks[name].compile(dynamic=False)


@contextmanager
def compiler_faults(stop_requested: Callable[[], bool]) -> Iterator[None]:
    """Says in a line what goes wrong while something is compiled.

    Raises:
        KeyboardInterrupt: Ctrl-C, which ends the C++ compilers too.
        UserError: anything else.
    """
    from torch._dynamo.exc import TorchDynamoException  # imports much

    try:
        yield
    except TorchDynamoException as error:
        if stop_requested():
            raise KeyboardInterrupt(
                "interrupted while compiling; what came after the last checkpoint is lost"
            ) from error
        raise UserError(f"--compile: PyTorch's compiler fails ({first_line(error)}); give --no-compile") from error


@cache
def _trouble(device: torch.device) -> str:
    """Why nothing can be compiled for a device, in a line; empty if it can."""
    try:
        torch.compile(torch.sin)(torch.zeros(8, device=device))
    except (RuntimeError, OSError) as error:  # its own are RuntimeErrors
        return first_line(error)
    return ""
