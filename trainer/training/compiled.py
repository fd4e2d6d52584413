"""Compiles networks with torch.compile where that does not change what a step computes.

The networks are compiled in place: their classes, weights and checkpoints stay the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache

import torch
from torch import nn

from ganserve.foreign import first_line
from trainer.config import EMA_GENERATOR, AnyConfig
from trainer.errors import UserError
from trainer.parallel import world_size


def check_compiler(device: torch.device) -> None:
    """Checks that networks can be compiled, before the run begins.

    Raises:
        UserError: there are several processes, or PyTorch's compiler does not work here.
    """
    if world_size() > 1:
        raise UserError("--compile: not available with several processes; give --no-compile")
    reason = _trouble(device)
    if reason:
        raise UserError(
            f"--compile: PyTorch's compiler does not work here ({reason:.200});"
            " install a C++ compiler, or give --no-compile"
        )


def names_to_compile(config: AnyConfig, names: Collection[str]) -> list[str]:
    """The networks to compile: those that a step runs, except a discriminator that a penalty differentiates twice.

    Compiled networks do not support that.
    """
    left_out = {EMA_GENERATOR, *(("discriminator",) if config.differentiates_twice else ())}
    return [name for name in names if name not in left_out]


def compile_networks(config: AnyConfig, networks: Mapping[str, nn.Module]) -> None:
    """Makes the networks compile at their first call; every batch must have the same size.

    Earlier compilations are discarded: PyTorch caches few versions, then silently falls back to eager execution.
    """
    torch.compiler.reset()
    for name in names_to_compile(config, networks):
        networks[name].compile(dynamic=False)


@contextmanager
def compiler_faults(stop_requested: Callable[[], bool]) -> Iterator[None]:
    """Turns errors of PyTorch's compiler into one line.

    Raises:
        KeyboardInterrupt: Ctrl-C, which also ends the C++ compilers.
        UserError: any other error.
    """
    from torch._dynamo.exc import TorchDynamoException  # slow to import

    try:
        yield
    except TorchDynamoException as error:
        if stop_requested():
            raise KeyboardInterrupt("interrupted while compiling; steps after the last checkpoint are lost") from error
        raise UserError(f"--compile: PyTorch's compiler fails ({first_line(error)}); give --no-compile") from error


@cache
def _trouble(device: torch.device) -> str:
    """Why the compiler does not work for a device, in one line; empty if it does."""
    try:
        torch.compile(torch.sin)(torch.zeros(8, device=device))
    except (RuntimeError, OSError) as error:  # compiler errors are RuntimeErrors
        return first_line(error)
    return ""
