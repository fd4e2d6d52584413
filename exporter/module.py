"""Loads a user's generator or translator: an importable module and a file of weights."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from exporter.errors import InputError
from exporter.graph import SpatialLatents
from exporter.guest import guest
from exporter.source import Source
from exporter.weights import Note, read_weights
from ganserve.bundle import LatentInput, RowInput
from ganserve.foreign import first_line

_TRIAL_ROWS = 2


def from_module(
    spec: str,
    weights: Path,
    row_input: RowInput,
    module_kwargs: Mapping[str, Any],
    value_range: tuple[float, float] = (-1.0, 1.0),
    *,
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
        return source_of_module(module, spec, row_input, value_range)


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
    module: nn.Module, architecture: str, row_input: RowInput, value_range: tuple[float, float]
) -> Source:
    """Makes a source from a module with loaded weights, after a trial run.

    Args:
        module: A generator or translator; moved to the CPU, float32 and eval mode in place.
        architecture: Its name in the card.
        row_input: See `from_module`.
        value_range: See `from_module`.

    Raises:
        InputError: The module does not turn such rows into images.
    """
    module = module.float().cpu().eval()
    if isinstance(row_input, LatentInput):
        kind, flag = "latents", "--latent-dim"
        rows = torch.zeros(_TRIAL_ROWS, row_input.latent_dim)
        attempts = {f"(N, {row_input.latent_dim})": module}
        attempts[f"(N, {row_input.latent_dim}, 1, 1)"] = SpatialLatents(module).eval()
    else:
        kind, flag = "images", "--input-image"
        shape = (row_input.channels, row_input.height, row_input.width)
        rows = torch.empty(_TRIAL_ROWS, *shape).uniform_(*value_range)
        attempts = {f"(N, {', '.join(map(str, shape))})": module}
    problems = []
    for takes, network in attempts.items():
        try:
            _check_gives_images(network, rows)
        except InputError as error:
            problems.append(f"{takes} returns {error}")
        else:
            return Source(
                network=network,
                input=row_input,
                name="",
                kind="",
                architecture=architecture,
                dataset="",
                value_min=value_range[0],
                value_max=value_range[1],
            )
    raise InputError(
        f"the module does not turn {kind} into images (N, C, H, W): {'; '.join(problems)}; is {flag} right?"
    )


def _check_gives_images(network: nn.Module, rows: Tensor) -> None:
    try:
        with torch.no_grad():
            images = network(rows)
    except Exception as error:  # the user's code may raise anything
        raise InputError(first_line(error)) from error
    if not isinstance(images, Tensor):
        raise InputError(f"a {type(images).__name__}")
    if images.ndim != 4 or len(images) != len(rows):
        raise InputError(f"a tensor of shape {tuple(images.shape)} for {len(rows)} rows")
