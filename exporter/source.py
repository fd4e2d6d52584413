"""Where a generator comes from: a run folder, or anyone's module and weights.

Owns the checks of what a user hands in. Knows nothing of folding, formats or the repository. The trainer is imported
only when a run is read.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from exporter.errors import InputError, first_line
from exporter.graph import SpatialLatents

_KEYS_NAMED = 3


@dataclass(frozen=True)
class Source:
    """A generator and what its card will say.

    `generator` is in eval mode, float32, on CPU: latents (N, latent_dim) -> images (N, C, H, W).
    """

    generator: nn.Module
    kind: str
    architecture: str
    dataset: str
    latent_dim: int
    image_shape: tuple[int, int, int] | None = None  # (C, H, W) if the source promises one
    training: Mapping[str, float | int | str | None] = field(default_factory=dict)
    value_min: float = -1.0
    value_max: float = 1.0


def from_run(run: Path, checkpoint: Literal["best", "last"]) -> Source:
    """Reads the generator of a run folder.

    Raises:
        InputError: the folder is not a run that can be exported.
    """
    from trainer.checkpoint import RunFolderError, load_generator

    try:
        exported = load_generator(run, checkpoint)
    except RunFolderError as error:
        raise InputError(" ".join(str(error).split())) from error  # one line, whatever it quotes
    return Source(
        generator=exported.generator.float().cpu().eval(),
        kind=exported.model,
        architecture=exported.architecture,
        dataset=exported.dataset,
        latent_dim=exported.latent_dim,
        image_shape=(exported.channels, exported.image_size, exported.image_size),
        training={"preset": exported.preset, "checkpoint": checkpoint, **exported.training},
    )


def from_module(
    spec: str,
    weights: Path,
    latent_dim: int,
    module_kwargs: Mapping[str, Any],
    value_range: tuple[float, float] = (-1.0, 1.0),
) -> Source:
    """Builds `spec` ("package.module:Class") and loads its weights.

    Args:
        spec: an importable class, or a function that returns a module.
        weights: a .safetensors file, or a state dict that torch.load can read with weights_only=True.
        latent_dim: numbers in one latent.
        module_kwargs: keyword arguments of the class.
        value_range: the values of its images that become pixels 0 and 255.

    Raises:
        InputError: one of them is not what it must be, or they do not fit together.
    """
    module = _build(spec, module_kwargs)
    _load_weights(module, _read_state(weights), weights)
    return Source(
        generator=_take_flat_latents(module.float().cpu().eval(), latent_dim).eval(),
        kind="",
        architecture=spec,
        dataset="",
        latent_dim=latent_dim,
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


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"--weights {path}: no such file")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # a foreign file can break its reader in any way
        raise InputError(
            f"--weights {path}: neither safetensors nor a state dict that loads without running code;"
            " write it with torch.save(generator.state_dict(), file)"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        found = f"a dict with {_name_keys(state)}" if isinstance(state, dict) else f"a {type(state).__name__}"
        raise InputError(
            f"--weights {path}: holds {found}, not a state dict; write it with torch.save(generator.state_dict(), file)"
        )
    return state


def _load_weights(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    expected = module.state_dict()
    if not any(key.startswith("module.") for key in expected):
        consume_prefix_in_state_dict_if_present(state, "module.")  # saved from inside a DataParallel
    for key in expected:
        if key in state and expected[key].shape != state[key].shape:
            raise InputError(
                f"--weights {path}: {key} has shape {tuple(state[key].shape)}, but the module's has"
                f" {tuple(expected[key].shape)}; give the sizes it was trained with in --module-kwargs"
            )
    missing, unexpected = module.load_state_dict(state, strict=False)
    problems = [
        f"{problem} {_name_keys(keys)}" for problem, keys in (("lacks", missing), ("has unknown", unexpected)) if keys
    ]
    if problems:
        raise InputError(f"--weights {path}: does not fit the module: {', '.join(problems)}")


def _name_keys(keys: Any) -> str:
    names = sorted(map(str, keys))
    more = f" and {len(names) - _KEYS_NAMED} more" if len(names) > _KEYS_NAMED else ""
    return (", ".join(names[:_KEYS_NAMED]) + more) or "no keys"


def _take_flat_latents(module: nn.Module, latent_dim: int) -> nn.Module:
    """Finds out whether the module takes latents as (N, D) or, as in DCGAN code, as (N, D, 1, 1)."""
    attempts = []
    for candidate, shape in ((module, f"(N, {latent_dim})"), (SpatialLatents(module), f"(N, {latent_dim}, 1, 1)")):
        try:
            _check_gives_images(candidate, torch.zeros(2, latent_dim))
        except InputError as error:
            attempts.append(f"{shape} gives {error}")
        else:
            return candidate
    raise InputError(
        f"the module does not turn latents into images (N, C, H, W): {'; '.join(attempts)}; is --latent-dim right?"
    )


def _check_gives_images(module: nn.Module, latents: Tensor) -> None:
    try:
        with torch.no_grad():
            images = module(latents)
    except Exception as error:  # foreign code again
        raise InputError(first_line(error)) from error
    if not isinstance(images, Tensor):
        raise InputError(f"a {type(images).__name__}")
    if images.ndim != 4 or len(images) != len(latents):
        raise InputError(f"a tensor of shape {tuple(images.shape)} for {len(latents)} rows")
