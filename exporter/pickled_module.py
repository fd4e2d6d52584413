"""Loads an entire module from one file, as torch.save(generator, "generator.pkl") writes it.

Loading such a file runs code from it, so the command line requires --allow-pickle before it calls this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from exporter.errors import InputError
from exporter.guest import guest
from exporter.module import source_of_module
from exporter.signature import PLAIN, Signature
from exporter.source import Source
from exporter.weights import Note, is_weights_format, pick, run_pickle
from ganserve.bundle import RowInput
from ganserve.foreign import first_line

_USE_WEIGHTS = "give it with --weights, and its class with --module"


def from_pickle(
    path: Path,
    row_input: RowInput,
    value_range: tuple[float, float],
    warn: Note,
    *,
    signature: Signature = PLAIN,
    weights_key: str | None = None,
) -> Source:
    """Loads a module from a file. This runs any code in the file: call it only with the user's permission.

    Args:
        path: A file of torch.save or pickle.dump: a module, or a dict with modules in it. The wrappers of DataParallel,
            torch.compile and running averages are removed.
        row_input: See `from_module`.
        value_range: See `from_module`.
        warn: Called with lines for the user: the first comes before the file is opened.
        signature: See `from_module`.
        weights_key: The module in a dict, such as "G_ema"; None: the only one, or the only running average.

    Raises:
        InputError: The file holds no module, or its class cannot be imported.
    """
    where = f"--pickle {path}"
    if is_weights_format(path):
        raise InputError(f"{where}: holds weights, and no code; {_USE_WEIGHTS}")
    warn(f"warning: loading {path} runs the code inside it")
    with guest(where, path.name, warn):
        content = _load(path, where)
        modules: dict[str, nn.Module] = {}
        _collect_modules(content, "", modules)
        if not modules and isinstance(content, Mapping):
            raise InputError(f"{where}: holds weights, and no module; {_USE_WEIGHTS}")
        if not modules:
            raise InputError(f"{where}: holds a {type(content).__name__}, not a torch.nn.Module")
        if weights_key is not None and weights_key not in modules:
            raise InputError(f"{where}: --weights-key {weights_key} is no module in it; it holds {', '.join(modules)}")
        module = modules[weights_key or pick(list(modules), where, "are modules", warn)]
        kind = type(module)
        architecture = f"{kind.__module__}:{kind.__qualname__}"
        return source_of_module(module, architecture, row_input, value_range, signature)


def _load(path: Path, where: str) -> Any:
    try:
        return run_pickle(path)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"{where}: its class cannot be imported ({first_line(error)}); run from the folder that contains"
            " it, or save the module's state_dict() and export that with --module and --weights"
        ) from error
    except Exception as error:  # unpickling runs the user's code, which may raise anything
        raise InputError(
            f"{where}: cannot be read ({first_line(error)}); write it with torch.save(module, file)"
        ) from error


def _collect_modules(content: Any, name: str, modules: dict[str, nn.Module]) -> None:
    """Finds the modules in dicts and lists, by their keys joined by dots."""
    if isinstance(content, nn.Module):
        while isinstance(content, nn.DataParallel | DistributedDataParallel | AveragedModel) or hasattr(
            content, "_orig_mod"
        ):
            content = content._orig_mod if hasattr(content, "_orig_mod") else content.module
        modules[name] = content
    elif isinstance(content, Mapping | list | tuple):
        items = content.items() if isinstance(content, Mapping) else enumerate(content)
        for key, value in items:
            _collect_modules(value, f"{name}.{key}" if name else str(key), modules)
