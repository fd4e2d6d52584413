"""Finds a preset by its model and id, or by the data set; recipes.py is the table.

The first preset of a model whose `fits` names the data set is that model's default for it; `images` stands for
folder:PATH and zip:PATH.
"""

from __future__ import annotations

from msgspec.structs import replace

from trainer.config import AnyConfig
from trainer.errors import UserError
from trainer.recipes import RECIPES, Preset

PRESETS: dict[tuple[str, str], Preset] = {(entry.config.model, entry.config.preset): entry for entry in RECIPES}
MODELS: tuple[str, ...] = tuple(dict.fromkeys(entry.config.model for entry in RECIPES))


def presets_of(model: str) -> dict[str, Preset]:
    """The presets of a model by id, in table order.

    Raises:
        UserError: there is no such model.
    """
    if model not in MODELS:
        raise UserError(f"--model {model!r}: choose one of {', '.join(MODELS)}, all")
    return {name: preset for (owner, name), preset in PRESETS.items() if owner == model}


def choose_preset(model: str, name: str | None, dataset: str | None) -> AnyConfig:
    """The config of a named preset, or of the one that fits the data set best; `dataset` replaces the preset's own.

    Raises:
        UserError: there is no such model or preset.
    """
    presets = presets_of(model)
    if name is not None and name not in presets:
        raise UserError(f"--preset {name!r}: the presets of {model} are {', '.join(presets)}")
    if name is not None:
        config = presets[name].config
    else:
        kind = "images" if dataset is not None and ":" in dataset else dataset or "digits"
        config = (
            next((preset.config for preset in presets.values() if kind in preset.fits), None)
            or next(iter(presets.values())).config
        )
    return config if dataset is None else replace(config, dataset=dataset)
