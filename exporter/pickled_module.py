"""Loads an entire module from one file, as torch.save(generator, "generator.pkl") writes it.

Loading such a file runs code from it, so the command line requires --allow-pickle before it calls this module.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from exporter.errors import InputError
from exporter.module import source_of_module
from exporter.signature import PLAIN, Signature
from exporter.source import Source
from ganserve.bundle import RowInput
from ganserve.foreign import first_line


def from_pickle(
    path: Path,
    row_input: RowInput,
    value_range: tuple[float, float],
    warn: Callable[[str], None],
    signature: Signature = PLAIN,
) -> Source:
    """Loads a module from a file. This runs any code in the file: call it only with the user's permission.

    Args:
        path: A file written by torch.save(module, path); a DataParallel is unwrapped.
        row_input: See `from_module`.
        value_range: See `from_module`.
        warn: Called with one line before the file is opened.
        signature: See `from_module`.

    Raises:
        InputError: The file holds no module, or its class cannot be imported.
    """
    if not path.is_file():
        raise InputError(f"--pickle {path}: no such file")
    warn(f"warning: loading {path} runs the code inside it")
    try:
        module = torch.load(path, "cpu", weights_only=False)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"--pickle {path}: its class cannot be imported ({first_line(error)}); run from the folder that contains"
            " it, or save the module's state_dict() and export that with --module and --weights"
        ) from error
    except Exception as error:  # unpickling runs the user's code, which may raise anything
        raise InputError(
            f"--pickle {path}: cannot be read ({first_line(error)}); write it with torch.save(module, file)"
        ) from error
    if isinstance(module, nn.DataParallel):
        module = module.module
    if isinstance(module, dict):
        raise InputError(f"--pickle {path}: holds weights; give it with --weights, and the class with --module")
    if not isinstance(module, nn.Module):
        raise InputError(f"--pickle {path}: holds a {type(module).__name__}, not a torch.nn.Module")
    kind = type(module)
    return source_of_module(module, f"{kind.__module__}:{kind.__qualname__}", row_input, value_range, signature)
