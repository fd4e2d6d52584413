"""Recipes for one's own pictures: size, width, batch and steps from the number of pictures and the device.

They apply to --dataset folder:PATH and zip:PATH without --preset, --config or --init-from; flags change single
settings. The losses, and on a CPU the widths, are those of the small presets. docs/training.md states the rules, and
docs/decisions/0028 has the measurements behind them.
"""

from __future__ import annotations

from typing import Any, Final

from trainer.config import AnyConfig, CycleConfig, override
from trainer.data.inspection import Inspection
from trainer.errors import UserError
from trainer.presets import PRESETS

PRESET: Final = "own-pictures"  # in config.json
FEW_PICTURES: Final = 2000  # up to here they are mirrored, and SWD chooses the best checkpoint
CPU_PIXELS: Final = 32
GPU_PIXELS: Final = 64
_STEPS_BETWEEN_SCORES: Final = 250
_STEPS_BETWEEN_SAMPLES: Final = 50
_KEPT_EPOCHS: Final = 5

# Learning rates that were measured on faces; those of the presets suit digits.
_RATE: Final[dict[str, Any]] = {"generator_lr": 2e-4, "discriminator_lr": 2e-4}
_PENALTY_RATE: Final[dict[str, Any]] = {"generator_lr": 5e-4, "discriminator_lr": 5e-4}

# Model -> the preset with its losses, its batch, its steps for few pictures on a CPU, and settings that differ.
_RECIPES: Final[dict[str, tuple[str, int, int, dict[str, Any]]]] = {
    "gan": ("gan-digits", 32, 3000, _RATE),
    "dcgan": ("dcgan-digits", 32, 1500, {}),
    "wgan": ("wgan-digits", 32, 3000, _RATE),
    "wgan-gp": ("wgan-gp-digits", 32, 1500, _PENALTY_RATE),
    "wgan-div": ("wgan-div-digits", 32, 1500, _PENALTY_RATE),
    "pggan": ("pggan-small", 16, 2500, {}),
    "cyclegan": ("cyclegan-small", 4, 1500, {}),
}


def recipe_for(model: str, inspection: Inspection, device_type: str, dataset: str) -> AnyConfig:
    """The recipe of a model for pictures in a folder or zip file.

    Args:
        model: a key of `_RECIPES`.
        inspection: of the pictures.
        device_type: "cpu" or "cuda".
        dataset: as --dataset.

    Raises:
        UserError: there is no such model.
    """
    if model not in _RECIPES:
        raise UserError(f"--model {model!r}: choose one of {', '.join(_RECIPES)}, all")
    name, batch_size, steps, others = _RECIPES[model]
    base = PRESETS[model, name].config
    pictures = inspection.largest_domain if isinstance(base, CycleConfig) else inspection.pictures
    large = device_type != "cpu" and inspection.short_side >= GPU_PIXELS
    if large:
        batch_size *= 2
    steps *= (2 if pictures > FEW_PICTURES else 1) * (1 if device_type == "cpu" else 2)
    settings: dict[str, Any] = {
        "preset": PRESET,
        "dataset": dataset,
        "network.image_size": GPU_PIXELS if large else CPU_PIXELS,
        "network.channels": 3,
        "batch_size": min(batch_size, _power_of_two_up_to(_smallest_domain(base, inspection))),
        "steps": steps,
        "epochs": None,
        "images": None,
        "evaluate_every_steps": _STEPS_BETWEEN_SCORES,
        "checkpoint_every_steps": _STEPS_BETWEEN_SCORES,
        "sample_every_steps": _STEPS_BETWEEN_SAMPLES,
    }
    if device_type != "cpu":
        settings["network.width"] = 2 * base.network.width
    if base.growth is not None:  # nine tenths of the run until the final size is complete
        doublings = (settings["network.image_size"] // base.growth.start_resolution).bit_length() - 1
        phase = steps * settings["batch_size"] * 9 // 10 // (1 + 2 * doublings)
        settings |= {"growth.stabilise_images": phase, "growth.fade_images": phase}
    if isinstance(base, CycleConfig):
        epochs = steps * settings["batch_size"] // pictures if pictures else 0
        settings["keep_epochs"] = max(1, epochs // _KEPT_EPOCHS)
    elif pictures <= FEW_PICTURES:
        # Not augmented: that made short runs worse.
        settings |= {"mirror": True, "best_by": "sliced_wasserstein_distance"}
    return override(base, settings | others)


def _smallest_domain(base: AnyConfig, inspection: Inspection) -> int:
    return inspection.smallest_domain if isinstance(base, CycleConfig) else inspection.pictures


def _power_of_two_up_to(count: int) -> int:
    return 1 << (max(2, count).bit_length() - 1)
