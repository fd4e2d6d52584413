"""ganserve.v1.Generator: the way of a request through admission, reading, batching and encoding. Decides nothing."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

import grpc
from numpy.typing import NDArray

from exporter.bundle import OUTPUT_IMAGES, OUTPUT_PIXELS
from ganserve.v1 import generator_pb2 as pb
from server.admission import admit_latents, find_model, read_latents
from server.catalog import Catalog, ServedModel
from server.config import ServerConfig
from server.encoding import ENCODERS
from server.image_admission import admit_images
from server.image_reader import ImageReader
from server.limits import ImageFormat, max_rows
from server.services.messages import (
    Response,
    format_name,
    model_message,
    sent_images,
    sent_latents,
    serialize_response,
)

SERVICE: Final[str] = pb.DESCRIPTOR.services_by_name["Generator"].full_name

# Work on fewer bytes than this is done sooner than a thread takes it over.
_THREAD_WORTHY_BYTES: Final = 256 << 10

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_Context = grpc.aio.ServicerContext[Any, Any]


class GeneratorService:
    """Answers from the models in a catalog, within the limits of a config.

    Args:
        catalog: what is served.
        image_reader: reads the images that are to be translated.
        config: the limits.
    """

    def __init__(self, catalog: Catalog, image_reader: ImageReader, config: ServerConfig) -> None:
        self._catalog = catalog
        self._image_reader = image_reader
        self._config = config

    def handlers(self) -> grpc.GenericRpcHandler:
        """What to add to a gRPC server.

        Images are answered in bytes, already serialised, because doing that to many would hold up the event loop.
        """
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Generate": grpc.unary_unary_rpc_method_handler(self.generate, pb.GenerateRequest.FromString, None),
                "Translate": grpc.unary_unary_rpc_method_handler(self.translate, pb.TranslateRequest.FromString, None),
                "ListModels": grpc.unary_unary_rpc_method_handler(
                    self.list_models, pb.ListModelsRequest.FromString, pb.ListModelsResponse.SerializeToString
                ),
            },
        )

    async def generate(self, request: pb.GenerateRequest, context: _Context) -> bytes:
        """Answers Generate with a serialised GenerateResponse."""
        remaining_s, deadline = _time_left(context)
        model = self._find_model(request)
        source = sent_latents(request)
        admitted = admit_latents(source, format_name(request), remaining_s, model.card, self._config)
        latents = await _in_thread_if(admitted.latents_bytes >= _THREAD_WORTHY_BYTES, read_latents, admitted)
        return await _compute(pb.GenerateResponse, model, latents, admitted.image_format, deadline)

    async def translate(self, request: pb.TranslateRequest, context: _Context) -> bytes:
        """Answers Translate with a serialised TranslateResponse."""
        remaining_s, deadline = _time_left(context)
        model = self._find_model(request)
        source = sent_images(request)
        admitted = admit_images(
            source, format_name(request), remaining_s, model.card, self._config, resize=request.resize
        )
        model.batcher.check_room(admitted.rows)
        pixels = await self._image_reader.read(admitted, deadline)
        return await _compute(pb.TranslateResponse, model, pixels, admitted.image_format, deadline)

    async def list_models(self, request: pb.ListModelsRequest, context: _Context) -> pb.ListModelsResponse:
        """Answers ListModels."""
        return pb.ListModelsResponse(
            models=[model_message(model, max_rows(model.card, self._config)) for model in self._catalog.values()]
        )

    def _find_model(self, request: pb.GenerateRequest | pb.TranslateRequest) -> ServedModel:
        served = {name: model.card.version for name, model in self._catalog.items()}
        return self._catalog[find_model(request.model, request.version, served)]


def _time_left(context: _Context) -> tuple[float | None, float]:
    """Seconds until the caller's deadline, None if it set none; and the deadline on the event loop's clock."""
    remaining_s: float | None = context.time_remaining()  # None without a deadline, whatever its stub says
    return remaining_s, math.inf if remaining_s is None else asyncio.get_running_loop().time() + remaining_s


async def _compute(
    kind: type[Response], model: ServedModel, inputs: NDArray[Any], image_format: ImageFormat, deadline: float
) -> bytes:
    """Computes the images of some rows; returns the answer, serialised."""
    output = OUTPUT_IMAGES if image_format is ImageFormat.FLOAT32 else OUTPUT_PIXELS
    images = (await model.batcher.submit(inputs, frozenset({output}), deadline))[output]
    slow = image_format in ENCODERS or images.nbytes >= _THREAD_WORTHY_BYTES
    return await _in_thread_if(slow, serialize_response, kind, model, images, image_format)


async def _in_thread_if(
    slow: bool,
    function: Callable[_Arguments, _Result],
    *args: _Arguments.args,
    **kwargs: _Arguments.kwargs,
) -> _Result:
    return await asyncio.to_thread(function, *args, **kwargs) if slow else function(*args, **kwargs)
