"""Anyone's generator or translator: an importable module and a file of weights.

Owns the checks of what a user hands in, all of it untrusted. Knows nothing of run folders, formats or the repository.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from exporter.errors import InputError
from exporter.graph import SpatialLatents
from exporter.source import Source
from ganserve.bundle import ImageInput, LatentInput, RowInput
from ganserve.foreign import first_line

_KEYS_NAMED = 3
_TRIAL_ROWS = 2


def from_module(
    spec: str,
    weights: Path,
    row_input: RowInput,
    module_kwargs: Mapping[str, Any],
    value_range: tuple[float, float] = (-1.0, 1.0),
) -> Source:
    """Builds `spec` ("package.module:Class") and loads its weights.

    Args:
        spec: an importable class, or a function that returns a module.
        weights: a .safetensors file, or a state dict that torch.load can read with weights_only=True.
        row_input: what it takes: latents, or images of one size.
        module_kwargs: keyword arguments of the class.
        value_range: the values of its images that are pixels 0 and 255, of those it takes too.

    Raises:
        InputError: one of them is not what it must be, or they do not fit together.
    """
    module = _build(spec, module_kwargs)
    load_weights(module, read_state(weights), weights)
    return source_of_module(module, spec, row_input, value_range)


def source_of_module(
    module: nn.Module, architecture: str, row_input: RowInput, value_range: tuple[float, float]
) -> Source:
    """The source of a module that has its weights, after a trial of what it takes.

    Args:
        module: generator or translator; made float32, and set to evaluation, in place.
        architecture: what its card calls it.
        row_input: see `from_module`.
        value_range: see `from_module`.

    Raises:
        InputError: it makes no images of such rows.
    """
    try:
        module = module.float().cpu().eval()
    except Exception as error:  # foreign code
        raise InputError(f"the module cannot be moved to the CPU ({first_line(error)})") from error
    if isinstance(row_input, LatentInput):
        module = _take_flat_latents(module, row_input.latent_dim).eval()
    else:
        _check_translates(module, row_input, value_range)
    return Source(
        network=module,
        input=row_input,
        name="",
        kind="",
        architecture=architecture,
        dataset="",
        value_min=value_range[0],
        value_max=value_range[1],
    )


def _build(spec: str, module_kwargs: Mapping[str, Any]) -> nn.Module:
    module_name, colon, class_name = spec.partition(":")
    if not (module_name and colon and class_name):
        raise InputError(f"--module {spec}: write it as package.module:Class")
    try:
        build = pkgutil.resolve_name(spec)
    except Exception as error:  # importing runs foreign code
        raise InputError(
            f"--module {spec}: cannot be imported ({first_line(error)}); run from the folder that holds it"
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
        raise InputError(f"--module {spec}: gives a {type(module).__name__}, not a torch.nn.Module")
    return module


def read_state(path: Path, flag: str = "--weights") -> dict[str, Tensor]:
    """Reads a state dict without running code.

    Raises:
        InputError: the file is none; the message begins with `flag`, by which the user gave it.
    """
    if not path.is_file():
        raise InputError(f"{flag} {path}: no such file")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # a foreign file can break its reader in any way
        raise InputError(
            f"{flag} {path}: neither safetensors nor a state dict that loads without running code;"
            " write it with torch.save(generator.state_dict(), file); if it is a whole module, and you trust it,"
            " give it with --pickle"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in state.items()
    ):
        found = f"a dict with {_name_keys(state)}" if isinstance(state, dict) else f"a {type(state).__name__}"
        raise InputError(
            f"{flag} {path}: holds {found}, not a state dict; write it with torch.save(generator.state_dict(), file)"
        )
    return state


def load_weights(module: nn.Module, state: dict[str, Tensor], path: Path, flag: str = "--weights") -> None:
    """Loads a state dict, whose keys may have DataParallel's prefix, into a module.

    Raises:
        InputError: it does not fit; the message begins with `flag`.
    """
    expected = module.state_dict()
    if not any(key.startswith("module.") for key in expected):
        consume_prefix_in_state_dict_if_present(state, "module.")  # saved from inside a DataParallel
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
    more = f" and {len(names) - _KEYS_NAMED} more" if len(names) > _KEYS_NAMED else ""
    return (", ".join(names[:_KEYS_NAMED]) + more) or "no keys"


def _take_flat_latents(module: nn.Module, latent_dim: int) -> nn.Module:
    """Finds out whether the module takes latents as (N, D) or, as in DCGAN code, as (N, D, 1, 1)."""
    attempts = []
    for candidate, shape in ((module, f"(N, {latent_dim})"), (SpatialLatents(module), f"(N, {latent_dim}, 1, 1)")):
        try:
            _check_gives_images(candidate, torch.zeros(_TRIAL_ROWS, latent_dim))
        except InputError as error:
            attempts.append(f"{shape} gives {error}")
        else:
            return candidate
    raise InputError(
        f"the module does not turn latents into images (N, C, H, W): {'; '.join(attempts)}; is --latent-dim right?"
    )


def _check_translates(module: nn.Module, image_input: ImageInput, value_range: tuple[float, float]) -> None:
    channels, height, width = image_input.channels, image_input.height, image_input.width
    try:
        _check_gives_images(module, torch.empty(_TRIAL_ROWS, channels, height, width).uniform_(*value_range))
    except InputError as error:
        raise InputError(
            f"the module does not turn images into images (N, C, H, W): (N, {channels}, {height}, {width}) gives"
            f" {error}; is --input-image right?"
        ) from error


def _check_gives_images(module: nn.Module, rows: Tensor) -> None:
    try:
        with torch.no_grad():
            images = module(rows)
    except Exception as error:  # foreign code again
        raise InputError(first_line(error)) from error
    if not isinstance(images, Tensor):
        raise InputError(f"a {type(images).__name__}")
    if images.ndim != 4 or len(images) != len(rows):
        raise InputError(f"a tensor of shape {tuple(images.shape)} for {len(rows)} rows")
