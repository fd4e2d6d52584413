"""Loads a user's generator or translator: an importable module and a file of weights."""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from exporter.errors import InputError
from exporter.guest import guest
from exporter.signature import PLAIN, Signature
from exporter.source import Source
from exporter.trial import adapt
from exporter.weights import Note, read_weights
from ganserve.bundle import RowInput
from ganserve.foreign import first_line


def from_module(
    spec: str,
    weights: Path,
    row_input: RowInput,
    module_kwargs: Mapping[str, Any],
    value_range: tuple[float, float] = (-1.0, 1.0),
    *,
    signature: Signature = PLAIN,
    weights_key: str | None = None,
    allow_pickle: bool = False,
    note: Note = lambda line: None,
) -> Source:
    """Builds `spec` ("package.module:Class") and loads its weights.

    Args:
        spec: An importable class, or a function that returns a module.
        weights: A file that `read_weights` reads.
        row_input: What the module takes: latents, or images of one size.
        module_kwargs: Keyword arguments of the class.
        value_range: The image values of pixels 0 and 255, for inputs and outputs.
        signature: How forward is called, and where the images are in its output.
        weights_key: The part of the file to load; None: the one that fits.
        allow_pickle: Run the code in the file of weights, if there is any.
        note: Called with lines for the user.

    Raises:
        InputError: The class or the weights cannot be loaded, or do not fit together.
    """
    if not all(spec.partition(":")):
        raise InputError(f"--module {spec}: write it as package.module:Class")
    where = f"--module {spec}"
    program = f"{spec.partition(':')[0].rpartition('.')[2]}.py"
    with guest(where, program, note):
        module = _build(spec, module_kwargs)
    found = read_weights(weights, "--weights", note, allow_pickle=allow_pickle).within(weights_key)
    found.load_into(module, note, remedy="; give the sizes it was trained with in --module-kwargs")
    with guest(where, program, note):
        return source_of_module(module, spec, row_input, value_range, signature)


def _build(spec: str, module_kwargs: Mapping[str, Any]) -> nn.Module:
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
    return module


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
