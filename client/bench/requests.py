"""Builds and sends the requests of a measurement, without retries so that every error is counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import grpc
import numpy as np

from client.bench.results import OK, WRONG_ANSWER
from client.errors import GanClientError, InvalidRequest, ServerFault, invalid_response
from client.sdk.channel import Endpoint, Stubs, is_any_ready
from client.sdk.chunking import max_input_bytes
from client.sdk.failures import failure_of
from client.sdk.messages import AnyFormat, Request, Response, check_response, generate_request, translate_request
from client.sdk.model_info import ModelInfo
from ganserve.latents import DISTRIBUTIONS, NORMAL, latents_from_seed
from ganserve.v1 import generator_pb2
from ganserve.wording import counted

_VARIANTS: Final = 16  # different requests, sent in turn
_MAX_HELD_BYTES: Final = 64 << 20  # of all variants
_DEFAULT_MAX_ROWS: Final = 65_536  # if the server does not list a limit
_LATENT_BYTES: Final = 4


def check_rows(served: ModelInfo, rows: int) -> None:
    """Checks that a request may have this number of rows.

    Raises:
        InvalidRequest: It exceeds the server's limit.
    """
    largest = served.max_request_rows or _DEFAULT_MAX_ROWS
    if served.max_request_bytes:
        largest = min(largest, max(1, max_input_bytes(served) // _row_bytes(served)))
    if rows > largest:
        raise InvalidRequest(f"--rows: at most {counted(largest, 'row')} per request for {served.name!r}, not {rows}")


def requests_of(served: ModelInfo, rows: int, image_format: AnyFormat) -> Sequence[Request]:
    """Different requests of `rows` rows each, the same on every run: latents of seed 0, or noise for an image model."""
    variants = max(1, min(_VARIANTS, _MAX_HELD_BYTES // (rows * _row_bytes(served))))
    if served.task == "translate":
        shape = (variants, rows, served.input_height, served.input_width, served.input_channels)
        noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        return [translate_request(served.name, served.version, list(images), False, image_format) for images in noise]
    prior = served.prior if served.prior in DISTRIBUTIONS else NORMAL  # of a newer server: the values change no speed
    latents = latents_from_seed(0, variants * rows, served.latent_dim, prior)
    latents = latents.reshape(variants, rows, served.latent_dim)
    return [generate_request(served.name, served.version, part, image_format) for part in latents]


class Sender:
    """Sends requests over its own connections; belongs to the running event loop.

    Args:
        endpoint: The server, with retries disabled.
        requests: The requests to send, in turn.
        rows: The number of rows per request.
    """

    def __init__(self, endpoint: Endpoint, requests: Sequence[Request], rows: int) -> None:
        self.first_errors: dict[str, GanClientError] = {}  # by status
        self._endpoint = endpoint
        self._channels = endpoint.open_async()
        self._stubs = Stubs(self._channels)
        self._requests = requests
        self._rows = rows

    async def send(self, number: int) -> str:
        """Sends a request and waits for its response; returns the name of its gRPC status, or WRONG_ANSWER."""
        request = self._requests[number % len(self._requests)]
        method = self._stubs.next("Generate" if isinstance(request, generator_pb2.GenerateRequest) else "Translate")
        try:
            response = await method(request, timeout=self._endpoint.timeout_s, metadata=self._endpoint.metadata)
            self._check(request, response)
        except grpc.RpcError as error:
            status: str = error.code().name
            if status not in self.first_errors:
                is_connected = is_any_ready(self._channels)
                self.first_errors[status] = failure_of(error, self._endpoint, is_connected=is_connected)
            return status
        except ServerFault as error:
            self.first_errors.setdefault(WRONG_ANSWER, error)
            return WRONG_ANSWER
        return OK

    async def close(self) -> None:
        """Closes the connections."""
        for channel in self._channels:
            await channel.close()

    def _check(self, request: Request, response: Response) -> None:
        """Checks only that there is one image per row, because checking more would delay the next requests."""
        check_response(request, response)
        is_tensor = response.WhichOneof("output") == "images"
        there = [*response.images.shape, 0][0] if is_tensor else len(response.encoded.data)
        if there != self._rows:
            raise invalid_response(f"it holds {there} images for {self._rows} rows")


def _row_bytes(served: ModelInfo) -> int:
    if served.task == "translate":
        return served.input_height * served.input_width * served.input_channels
    return _LATENT_BYTES * served.latent_dim
