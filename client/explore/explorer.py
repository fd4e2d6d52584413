"""Fetches what the page shows through the SDK. All tabs share one explorer; independent of Gradio."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client.errors import InvalidRequest, UnsupportedByServer
from client.explore.commands_text import Commands
from client.explore.directions import Directions, strongest_directions
from client.explore.training_pictures import Nearest, TrainingPictures
from client.explore.watch import Watch, key_of
from client.sdk.client import GanClient
from client.sdk.model_info import ModelInfo
from ganserve.latents import DISTRIBUTIONS, latents_from_seed
from ganserve.metrics import METRICS

MAX_PICTURE_PIXELS: Final = 16 << 20  # of all images shown at once, which go to the browser in one message

_MAX_LATENT_VALUES: Final = 1 << 22
_MAX_KEPT_DIRECTIONS: Final = 16  # models


class Explorer:
    """The SDK calls that the page makes; safe to share between threads."""

    def __init__(
        self, client: GanClient, watch: Watch, commands: Commands, pictures: TrainingPictures | None = None
    ) -> None:
        self.watch = watch
        self.commands = commands
        self._client = client
        self.pictures = pictures
        # Keyed by the complete ModelInfo: another server may use the same name and version for another model.
        self._directions: OrderedDict[ModelInfo, Directions] = OrderedDict()
        self._finding = threading.Lock()

    def find(self, key: str, task: str = "generate") -> ModelInfo:
        """The served model with a key, NAME:VERSION.

        Raises:
            GanClientError: The model is not served, or is for another task.
        """
        model = self.watch.find(key)
        if model.task != task:
            other = "the Translate tab" if model.task == "translate" else "another tab"
            raise InvalidRequest(f"{key} does not work in this tab; use {other}, or pick another model")
        return model

    def latents(self, model: ModelInfo, seed: int, count: int) -> NDArray[np.float32]:
        """The first latents of a seed, (count, latent_dim).

        Raises:
            InvalidRequest: There are too many, or the latent distribution is unknown.
        """
        self.check_size(model, count)
        if model.prior not in DISTRIBUTIONS:
            raise InvalidRequest(
                f"{key_of(model)} takes {model.prior!r:.40} latents, which this page cannot draw; pick"
                " another model, or update ganserve"
            )
        return latents_from_seed(seed, count, model.latent_dim, model.prior)

    def check_size(self, model: ModelInfo, count: int) -> None:
        """Checks that the page can show `count` images of a model at once.

        Raises:
            InvalidRequest: There are too many.
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
        """The images of latents, uint8 (rows, height, width, channels).

        Raises:
            GanClientError: The request failed.
        """
        self.check_size(model, len(latents))
        images: NDArray[np.uint8] = self._client.generate(model.name, latents=latents, version=model.version)
        return images

    def files(self, model: ModelInfo, latents: NDArray[np.float32]) -> list[bytes]:
        """The images of latents as PNG files.

        Raises:
            GanClientError: The request failed.
        """
        self.check_size(model, len(latents))
        return self._client.generate_encoded(model.name, latents=latents, version=model.version)

    def translation(self, model: ModelInfo, picture: bytes) -> bytes:
        """The translation of a PNG or JPEG file, as a PNG file.

        Raises:
            GanClientError: The request failed.
        """
        self.check_size(model, 1)
        [file] = self._client.translate_encoded(model.name, [picture], version=model.version, resize=True)
        return file

    def metrics(self, model: ModelInfo) -> dict[str, float]:
        """The metrics on the card of a model, by name; empty if it has none, or the server shows no cards.

        Raises:
            GanClientError: The request failed.
        """
        try:
            training = self._client.card(model.name, model.version).get("training")
        except UnsupportedByServer:
            return {}
        found = training.items() if isinstance(training, dict) else ()
        return {name: value for name, value in found if name in METRICS and isinstance(value, int | float)}

    @property
    def has_pictures(self) -> bool:
        """Whether the training pictures are known."""
        return self.pictures is not None

    def nearest(self, model: ModelInfo, latent: NDArray[np.float32], count: int) -> Nearest:
        """The training pictures nearest to the image of a latent, (latent_dim,).

        Raises:
            GanClientError: The request failed, or the training pictures cannot be compared.
        """
        if self.pictures is None:
            raise InvalidRequest("nearest pictures: start the explorer with --dataset")
        return self.pictures.nearest(self.pixels(model, latent[np.newaxis])[0], count)

    def known_directions(self, model: ModelInfo) -> Directions | None:
        """The directions of a model if they are already known."""
        return self._directions.get(model)

    def find_directions(self, model: ModelInfo, progress: Callable[[float], object]) -> Directions:
        """The directions of a model; samples the generator unless they are known. Handles one model at a time.

        Raises:
            GanClientError: A request failed, or the model has no directions.
        """
        self.check_size(model, 1)
        with self._finding:
            found = self._directions.get(model)
            if found is None:
                found = strongest_directions(
                    lambda latents: self._parts(model, latents), model.latent_dim, model.prior, progress=progress
                )
                self._directions[model] = found
                while len(self._directions) > _MAX_KEPT_DIRECTIONS:
                    self._directions.popitem(last=False)
            return found

    def _parts(self, model: ModelInfo, latents: NDArray[np.float32]) -> Iterator[NDArray[np.uint8]]:
        for chunk in self._client.generate_chunks(model.name, latents=latents, version=model.version):
            yield chunk.images
