"""Whole modules in one file, as torch.save(generator, "generator.pkl") writes them.

Such a file is a program: to read it is to run it. So the command line asks for --allow-pickle before it comes here, and
a file of weights never does (imported.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from exporter.errors import InputError
from exporter.module import source_of_module
from exporter.source import Source
from ganserve.bundle import RowInput
from ganserve.foreign import first_line


def from_pickle(
    path: Path, row_input: RowInput, value_range: tuple[float, float], warn: Callable[[str], None]
) -> Source:
    """Loads a module from a file, whatever code of it that runs: to be called only if the user has allowed it.

    Args:
        path: what torch.save has written of a module; a DataParallel is taken out of its wrapper.
        row_input: see `from_module`.
        value_range: see `from_module`.
        warn: called with one line before the file is opened.

    Raises:
        InputError: the file holds no module, or its class cannot be imported.
    """
    if not path.is_file():
        raise InputError(f"--pickle {path}: no such file")
    warn(f"warning: reading {path} runs the code that is in it")
    try:
        module = torch.load(path, "cpu", weights_only=False)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"--pickle {path}: its class cannot be imported ({first_line(error)}); run from the folder that holds it,"
            " or save its state_dict() where it can be, and give that with --module and --weights"
        ) from error
    except Exception as error:  # foreign code can fail in any way
        raise InputError(
            f"--pickle {path}: cannot be read ({first_line(error)}); is it what torch.save(module, file) has written?"
        ) from error
    if isinstance(module, nn.DataParallel):
        module = module.module
    if isinstance(module, dict):
        raise InputError(f"--pickle {path}: holds weights; give it with --weights, and the class with --module")
    if not isinstance(module, nn.Module):
        raise InputError(f"--pickle {path}: holds a {type(module).__name__}, not a torch.nn.Module")
    kind = type(module)
    return source_of_module(module, f"{kind.__module__}:{kind.__qualname__}", row_input, value_range)
