"""Lists the models of a model repository, and loads single versions."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ganserve.bundle import BundleError, Card, ImageInput, list_models, read_card, repository_above, version_folder
from ganserve.foreign import first_line
from server.config import ServerConfig
from server.engines.loading import load_instances, within_load_timeout
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
        raise StartupError(f"--models: {no_model_in(config.models)}")
    return names


def no_model_in(folder: Path) -> str:
    """Says that a model repository is empty, and what to do."""
    if (above := repository_above(folder)) is not None:
        return f"{folder} is a model, not a model repository: did you mean --models {above}?"
    return f"{folder} holds no model: export a run into it (python -m exporter RUN --models {folder}), or give another"


def load_version(config: ServerConfig, name: str, version: int) -> LoadedModel:
    """Loads one version and warms it up; slow, so call it off the event loop.

    Raises:
        BundleError: it does not work; the message says why, in one line.
        StartupError: the device is not available, so another version would not help.
    """
    folder = version_folder(config.models, name, version)
    try:
        return _load_version(config, folder)
    except OSError as error:
        raise BundleError(f"{folder}: cannot be read ({error.strerror or error})") from error
    except (BundleError, StartupError):
        raise
    except Exception as error:  # whatever is in a file, only its own version fails
        raise BundleError(f"{folder}: loading failed ({first_line(error)}); export the model again") from error


def _load_version(config: ServerConfig, folder: Path) -> LoadedModel:
    card, file_bytes = within_load_timeout(config, folder, partial(_read, folder))
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
    began = time.perf_counter()
    loaded = load_instances(folder, card, config)
    _log.info(
        "%s:%d: %s on %s, %s, %d instances, loaded and warmed up in %.2f s",
        *(card.name, card.version, loaded.backend, loaded.device, loaded.precision, len(loaded.groups.instances)),
        time.perf_counter() - began,
    )
    return LoadedModel(contract, folder, file_bytes, loaded)


def _read(folder: Path) -> tuple[Card, dict[str, int]]:
    """The card of a version, and the sizes in bytes of the files that it lists and that exist."""
    card = read_card(folder)
    listed = (path for path in folder.iterdir() if path.name in card.files)
    return card, {path.name: path.stat().st_size for path in listed if path.is_file()}
