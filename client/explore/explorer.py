"""Makes what the page shows, with the SDK. One for all tabs; knows no Gradio."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client.errors import InvalidRequest
from client.explore.commands_text import Commands
from client.explore.directions import Directions, strongest_directions
from client.explore.watch import Watch, key_of
from client.sdk.client import GanClient
from client.sdk.model_info import ModelInfo
from ganserve.latents import latents_from_seed

MAX_PICTURE_PIXELS: Final = 16 << 20  # of all images shown at once: a browser gets them as one message

_MAX_LATENT_VALUES: Final = 1 << 22
_MAX_KEPT_DIRECTIONS: Final = 16  # models


class Explorer:
    """The SDK as the page needs it; safe to share between threads.

    Args:
        client: for images.
        watch: for what is served.
        commands: for the commands that the page shows.
    """

    def __init__(self, client: GanClient, watch: Watch, commands: Commands) -> None:
        self.watch = watch
        self.commands = commands
        self._client = client
        # Not by name and version: another server may give them to another model.
        self._directions: OrderedDict[ModelInfo, Directions] = OrderedDict()
        self._finding = threading.Lock()

    def find(self, key: str, task: str = "generate") -> ModelInfo:
        """The picked model.

        Raises:
            GanClientError: it is not served, or it is for another task.
        """
        model = self.watch.find(key)
        if model.task != task:
            other = "the Translate tab" if model.task == "translate" else "another tab"
            raise InvalidRequest(f"{key} is not for this tab; use {other}, or pick another model")
        return model

    def latents(self, model: ModelInfo, seed: int, count: int) -> NDArray[np.float32]:
        """The first latents of a seed, (count, latent_dim).

        Raises:
            InvalidRequest: there are too many, or latents of this model are not drawn so.
        """
        self.check_size(model, count)
        if model.latent_distribution != "normal":
            raise InvalidRequest(
                f"{key_of(model)} takes {model.latent_distribution!r:.40} latents, which this page cannot draw; pick"
                " another model, or update ganserve"
            )
        return latents_from_seed(seed, count, model.latent_dim)

    def check_size(self, model: ModelInfo, count: int) -> None:
        """Checks that so many images of a model can be shown at once.

        Raises:
            InvalidRequest: they cannot.
        """
        most = min(MAX_PICTURE_PIXELS // (model.height * model.width), _MAX_LATENT_VALUES // max(1, model.latent_dim))
        if count > most:
            size = f"{model.width}x{model.height}"
            raise InvalidRequest(
                f"{count} images of {size} are too many to show at once; ask for at most {most}"
                if most
                else f"images of {size} are too large to show; use ganclient grid"
            )

    def pixels(self, model: ModelInfo, latents: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Images of latents, uint8 (rows, height, width, channels).

        Raises:
            GanClientError: there are none.
        """
        self.check_size(model, len(latents))
        images: NDArray[np.uint8] = self._client.generate(model.name, latents=latents, version=model.version)
        return images

    def files(self, model: ModelInfo, latents: NDArray[np.float32]) -> list[bytes]:
        """Images of latents as PNG files.

        Raises:
            GanClientError: there are none.
        """
        self.check_size(model, len(latents))
        return self._client.generate_encoded(model.name, latents=latents, version=model.version)

    def translation(self, model: ModelInfo, picture: bytes) -> bytes:
        """A PNG file of what the model makes of a PNG or JPEG file.

        Raises:
            GanClientError: there is none.
        """
        self.check_size(model, 1)
        [file] = self._client.translate_encoded(model.name, [picture], version=model.version, resize=True)
        return file

    def known_directions(self, model: ModelInfo) -> Directions | None:
        """The directions of a model if they were found before."""
        return self._directions.get(model)

    def find_directions(self, model: ModelInfo, progress: Callable[[float], object]) -> Directions:
        """The directions of a model, found now unless they were before; one model at a time.

        Raises:
            GanClientError: they cannot be found.
        """
        self.check_size(model, 1)
        with self._finding:
            found = self._directions.get(model)
            if found is None:
                found = strongest_directions(
                    lambda latents: self._parts(model, latents), model.latent_dim, progress=progress
                )
                self._directions[model] = found
                while len(self._directions) > _MAX_KEPT_DIRECTIONS:
                    self._directions.popitem(last=False)
            return found

    def _parts(self, model: ModelInfo, latents: NDArray[np.float32]) -> Iterator[NDArray[np.uint8]]:
        for chunk in self._client.generate_chunks(model.name, latents=latents, version=model.version):
            yield chunk.images
