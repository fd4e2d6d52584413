"""Loads a user's generator or translator: an importable module and a file of weights."""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from exporter.errors import InputError
from exporter.signature import PLAIN, Signature
from exporter.source import Source
from exporter.trial import adapt
from ganserve.bundle import RowInput
from ganserve.foreign import first_line

_MAX_KEYS_NAMED = 3


def from_module(
    spec: str,
    weights: Path,
    row_input: RowInput,
    module_kwargs: Mapping[str, Any],
    value_range: tuple[float, float] = (-1.0, 1.0),
    signature: Signature = PLAIN,
) -> Source:
    """Builds `spec` ("package.module:Class") and loads its weights.

    Args:
        spec: An importable class, or a function that returns a module.
        weights: A .safetensors file, or a state dict that torch.load reads with weights_only=True.
        row_input: What the module takes: latents, or images of one size.
        module_kwargs: Keyword arguments of the class.
        value_range: The image values of pixels 0 and 255, for inputs and outputs.
        signature: How forward is called, and where the images are in its output.

    Raises:
        InputError: The class or the weights cannot be loaded, or do not fit together.
    """
    if not all(spec.partition(":")):
        raise InputError(f"--module {spec}: write it as package.module:Class")
    try:
        build = pkgutil.resolve_name(spec)
    except Exception as error:  # importing runs the user's code
        raise InputError(
            f"--module {spec}: cannot be imported ({first_line(error)}); run from the folder that contains it"
        ) from error
    if not callable(build):
        raise InputError(f"--module {spec}: is a {type(build).__name__}; name a class, or a function that returns one")
    try:
        module = build(**module_kwargs)
    except Exception as error:
        raise InputError(
            f"--module {spec}: cannot be built ({first_line(error)}); give its arguments in --module-kwargs"
        ) from error
    if not isinstance(module, nn.Module):
        raise InputError(f"--module {spec}: returns a {type(module).__name__}, not a torch.nn.Module")
    load_weights(module, read_state(weights), weights)
    return source_of_module(module, spec, row_input, value_range, signature)


def source_of_module(
    module: nn.Module,
    architecture: str,
    row_input: RowInput,
    value_range: tuple[float, float],
    signature: Signature = PLAIN,
) -> Source:
    """Makes a source from a module with loaded weights, after a trial run.

    Args:
        module: A generator or translator; moved to the CPU, float32 and eval mode in place.
        architecture: Its name in the card.
        row_input: See `from_module`.
        value_range: See `from_module`.
        signature: See `from_module`.

    Raises:
        InputError: The module does not turn such rows into images.
    """
    network = adapt(module.float().cpu().eval(), row_input, value_range, signature)
    fixed = json.dumps(dict(signature.forward_kwargs))
    return Source(
        network=network,
        input=row_input,
        name="",
        kind="",
        architecture=architecture,
        dataset="",
        training={"forward_kwargs": fixed} if signature.forward_kwargs else {},
        value_min=value_range[0],
        value_max=value_range[1],
    )


def read_state(path: Path, flag: str = "--weights") -> dict[str, Tensor]:
    """Reads a state dict without running code.

    Args:
        path: A .safetensors file, or a file written by torch.save.
        flag: The flag that named the file, for error messages.

    Raises:
        InputError: The file does not hold a state dict.
    """
    if not path.is_file():
        raise InputError(f"{flag} {path}: no such file")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # the readers raise many kinds of errors
        raise InputError(
            f"{flag} {path}: neither safetensors nor a state dict that loads without running code;"
            " write it with torch.save(generator.state_dict(), file); if it is an entire module that you trust,"
            " export it with --pickle"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        found = f"a dict with {_name_keys(state)}" if isinstance(state, dict) else f"a {type(state).__name__}"
        raise InputError(
            f"{flag} {path}: holds {found}, not a state dict; write it with torch.save(generator.state_dict(), file)"
        )
    return state


def load_weights(module: nn.Module, state: dict[str, Tensor], path: Path, flag: str = "--weights") -> None:
    """Loads a state dict into a module; its keys may have DataParallel's prefix "module.".

    Raises:
        InputError: The state dict does not fit; the message begins with `flag` and `path`.
    """
    expected = module.state_dict()
    if not any(key.startswith("module.") for key in expected):
        consume_prefix_in_state_dict_if_present(state, "module.")
    for key in expected:
        if key in state and expected[key].shape != state[key].shape:
            remedy = "; give the sizes it was trained with in --module-kwargs" if flag == "--weights" else ""
            raise InputError(
                f"{flag} {path}: {key} has shape {tuple(state[key].shape)}, but the module's has"
                f" {tuple(expected[key].shape)}{remedy}"
            )
    missing, unexpected = module.load_state_dict(state, strict=False)
    problems = [
        f"{problem} {_name_keys(keys)}" for problem, keys in (("lacks", missing), ("has unknown", unexpected)) if keys
    ]
    if problems:
        raise InputError(f"{flag} {path}: does not fit the module: {', '.join(problems)}")


def _name_keys(keys: Any) -> str:
    names = sorted(map(str, keys))
    more = f" and {len(names) - _MAX_KEYS_NAMED} more" if len(names) > _MAX_KEYS_NAMED else ""
    return (", ".join(names[:_MAX_KEYS_NAMED]) + more) or "no keys"
