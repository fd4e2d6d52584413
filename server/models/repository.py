"""Lists the models of a model repository, and loads single versions."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from ganserve.bundle import BundleError, ImageInput, list_models, read_card, version_folder
from server.config import ServerConfig
from server.engines.loading import load_instances
from server.errors import StartupError
from server.limits import Contract, ImageFormat, contract_of
from server.scheduling.instances import LoadedInstances

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedModel:
    """One version, loaded and warmed up."""

    contract: Contract
    folder: Path
    file_bytes: dict[str, int]  # of the files that the card lists and that exist
    loaded: LoadedInstances


def names_to_serve(config: ServerConfig) -> list[str]:
    """Lists the models of the repository when the server starts; reads the disk, so call it off the event loop.

    Raises:
        StartupError: there is no repository or no model in it, or flags conflict.
    """
    if config.cuda_graphs and config.model_control != "none":
        raise StartupError(
            "--cuda-graphs: nothing else may run on the device while a graph is captured, so no model can be loaded"
            " while others are served; leave out --cuda-graphs or --model-control"
        )
    try:
        names = list_models(config.models)
    except BundleError as error:
        raise StartupError(f"--models: {error}") from error
    except OSError as error:
        raise StartupError(
            f"--models: {config.models} cannot be read ({error.strerror}); fix its permissions"
        ) from error
    if not names:
        raise StartupError(f"--models: {config.models} holds no model: export a run into it, or name another folder")
    return names


def load_version(config: ServerConfig, name: str, version: int) -> LoadedModel:
    """Loads one version and warms it up; slow, so call it off the event loop.

    Raises:
        BundleError: it does not work; the message says why.
        StartupError: the device is not available, so another version would not help.
    """
    try:
        return _load_version(config, name, version)
    except OSError as error:
        folder = version_folder(config.models, name, version)
        raise BundleError(f"{folder}: cannot be read ({error.strerror or error})") from error


def _load_version(config: ServerConfig, name: str, version: int) -> LoadedModel:
    folder = version_folder(config.models, name, version)
    card = read_card(folder)
    contract = contract_of(card, config)
    if contract.max_rows[ImageFormat.PIXELS] < 1:
        raise BundleError(f"{folder}: one row is larger than the largest request or response")
    if isinstance(card.input, ImageInput):
        height, width = card.input.height, card.input.width
        if height * width > config.max_image_pixels:
            raise BundleError(
                f"{folder}: takes images of {height}x{width} (height x width), and --max-image-pixels is"
                f" {config.max_image_pixels}: raise it to {height * width}"
            )
    file_bytes = {path.name: path.stat().st_size for path in folder.iterdir() if path.name in card.files}
    began = time.perf_counter()
    loaded = load_instances(folder, card, config)
    _log.info(
        "%s:%d: %s on %s, %s, %d instances, loaded and warmed up in %.2f s",
        *(name, version, loaded.backend, loaded.device, loaded.precision, len(loaded.groups.instances)),
        time.perf_counter() - began,
    )
    return LoadedModel(contract, folder, file_bytes, loaded)
