"""Loads the newest working version of every model in a model repository.

Versions are tried from the newest to the oldest, so that one broken export does not take a model out of service.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ganserve.bundle import (
    BundleError,
    Card,
    ImageInput,
    list_models,
    list_versions,
    read_card,
    repository_above,
    version_folder,
)
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


def load_repository(config: ServerConfig) -> Iterator[LoadedModel]:
    """Loads every model, one by one, by name; slow, so call it off the event loop.

    Raises:
        StartupError: there is no repository or no working model, the device is not available, or flags
            conflict.
    """
    if config.cuda_graphs and config.model_control == "explicit":
        raise StartupError(
            "--cuda-graphs: nothing else may run on the device while a graph is captured, so no model can be loaded"
            " while others are served; leave out --cuda-graphs or --model-control explicit"
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
    loaded = 0
    for name in names:
        if (model := load_newest(config, name)) is not None:
            loaded += 1
            yield model
    if not loaded:
        raise StartupError(f"--models: no model in {config.models} works; see the log above, and export them again")


def no_model_in(folder: Path) -> str:
    """Says that a model repository is empty, and what to do."""
    if (above := repository_above(folder)) is not None:
        return f"{folder} is a model, not a model repository: did you mean --models {above}?"
    return f"{folder} holds no model: export a run into it, or name another folder"


def load_newest(config: ServerConfig, name: str) -> LoadedModel | None:
    """Loads the newest working version of a model; logs an error and returns None if no version works.

    Raises:
        StartupError: the device is not available, so another version would not help.
    """
    try:
        versions = list_versions(config.models, name)
    except OSError as error:
        _log.error("%s: its folder cannot be read, so the model is not served: %s", name, error)
        return None
    for version in reversed(versions):
        try:
            return load_version(config, name, version)
        except BundleError as error:
            _log.warning("%s:%d is broken and not served: %s", name, version, error)
    _log.error("%s: no version works, so the model is not served", name)
    return None


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
