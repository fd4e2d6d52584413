"""Starts a run from the networks of another run: --init-from.

Only networks are taken, with their averages; optimisers, the position in the data and everything random are those of a
new run. The config names the run and the checkpoint, and a resumed run continues from its own checkpoint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from trainer.config import AnyConfig, Config, override
from trainer.errors import RunFolderError, UserError
from trainer.models import SizedConfig, flag_size
from trainer.runs.run_folder import CheckpointMetadata, RunFolder
from trainer.runs.state import TrainingState, section


def with_growth_continued(config: Config) -> Config:
    """The config of a growing network that begins at the size at which the other run's checkpoint ended.

    Raises:
        UserError: there is no such run or checkpoint.
    """
    if not config.init_from:
        return config
    size = _open(config).read_metadata(config.init_checkpoint).output_size
    if config.growth is None or size > config.network.image_size:  # too large: refused by check_initial_weights
        return config
    return override(config, {"growth.start_resolution": size})


def check_initial_weights(config: AnyConfig) -> None:
    """Checks that the other run's networks are those of this config, whose number of channels is known by now.

    Raises:
        UserError: they are not; the message names what differs.
    """
    if not config.init_from:
        return
    other = _open(config).read_config()
    here, there = (_settings(each.network) for each in (config, other))
    if type(config) is not type(other):
        raise UserError(f"--init-from {config.init_from}: is a run of {other.model}; {config.model} has other networks")
    if differing := [name for name, value in here.items() if value != there[name]]:
        differences = "; ".join(f"{name} {there[name]} there, {here[name]} here" for name in differing)
        remedy = "give images with as many channels"
        if differing != ["channels"]:
            remedy = "leave out --model, --preset, --image-size and --width to take those networks"
        raise UserError(f"--init-from {config.init_from}: its networks differ ({differences}); {remedy}")


def load_initial_weights(config: AnyConfig, state: TrainingState) -> CheckpointMetadata:
    """Replaces the weights of all networks; returns the metadata of the checkpoint that they come from.

    Raises:
        UserError: there is no such run or checkpoint, or its networks do not fit.
    """
    metadata, tensors = _open(config).read_checkpoint(config.init_checkpoint)
    try:
        for prefix, network in state.networks.items():
            network.load_state_dict(section(tensors, prefix))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"--init-from {config.init_from}: its networks do not fit ({reason})") from error
    for name in state.CARRIED_COUNTERS:
        setattr(state, name, metadata.counters[name])
    return metadata


def _settings(network: SizedConfig) -> dict[str, Any]:
    settings: dict[str, Any] = msgspec.to_builtins(network)
    del settings["image_width"]
    return settings | {"image_size": flag_size(network.size)}


def _open(config: AnyConfig) -> RunFolder:
    try:
        return RunFolder.open(Path(config.init_from))
    except RunFolderError as error:
        raise UserError(f"--init-from {error}; --init-from '' begins with new weights") from error
