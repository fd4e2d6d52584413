"""ganserve.v1.Generator: the way of a request through admission, reading, batching and encoding. Decides nothing."""

from __future__ import annotations

import asyncio
import math
from typing import Any, Final

import grpc
from numpy.typing import NDArray

from exporter.bundle import OUTPUT_IMAGES, OUTPUT_PIXELS
from ganserve.v1 import generator_pb2 as pb
from server.admission import AdmittedLatents, admit_latents, find_model, read_latents
from server.byte_budget import ByteBudget
from server.catalog import Catalog, ServedModel
from server.config import MESSAGE_OVERHEAD_BYTES, ServerConfig
from server.encoding import ENCODERS
from server.errors import InvalidRequest
from server.image_admission import AdmittedImages, admit_images
from server.image_reader import ImageReader
from server.interceptors import note_model
from server.limits import ImageFormat, max_input_bytes, max_rows
from server.services.messages import (
    Response,
    format_name,
    model_message,
    sent_images,
    sent_latents,
    serialize_response,
)
from server.services.parsing import MessageParser, in_thread_if, is_thread_worthy

SERVICE: Final[str] = pb.DESCRIPTOR.services_by_name["Generator"].full_name

_Context = grpc.aio.ServicerContext[Any, Any]


class GeneratorService:
    """Answers from the models in a catalog, within the limits of a config.

    Args:
        catalog: what is served.
        image_reader: reads the images that are to be translated.
        input_budget: the bytes that images which are in work may take.
        config: the limits.
    """

    def __init__(
        self, catalog: Catalog, image_reader: ImageReader, input_budget: ByteBudget, config: ServerConfig
    ) -> None:
        self._catalog = catalog
        self._image_reader = image_reader
        self._input_budget = input_budget
        self._config = config
        self._parser = MessageParser()

    def handlers(self) -> grpc.GenericRpcHandler:
        """What to add to a gRPC server.

        Requests come and answers go as bytes: parsing large ones, or serialising many images, would hold up the event
        loop, and nothing is to be parsed before the gate.
        """
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Generate": grpc.unary_unary_rpc_method_handler(self.generate, None, None),
                "Translate": grpc.unary_unary_rpc_method_handler(self.translate, None, None),
                "ListModels": grpc.unary_unary_rpc_method_handler(self.list_models, None, None),
            },
        )

    async def generate(self, body: bytes, context: _Context) -> bytes:
        """Answers a serialised GenerateRequest with a serialised GenerateResponse."""
        remaining_s, deadline = _time_left(context)
        if len(body) > self._config.max_latents_bytes + MESSAGE_OVERHEAD_BYTES:
            raise InvalidRequest(
                f"the request has {len(body)} bytes, and latents may have {self._config.max_latents_bytes}:"
                " send fewer rows at a time"
            )
        model, admitted = await self._admit_latents(body, remaining_s)
        latents = await in_thread_if(is_thread_worthy(admitted.latents_bytes), read_latents, admitted)
        images = await _compute(model, latents, admitted.image_format, deadline)
        return await _serialize(pb.GenerateResponse, model, images, admitted.image_format)

    async def translate(self, body: bytes, context: _Context) -> bytes:
        """Answers a serialised TranslateRequest with a serialised TranslateResponse."""
        remaining_s, deadline = _time_left(context)
        with self._input_budget.reserve(len(body)):  # gRPC keeps it until the answer is made
            model, admitted = await self._admit_images(body, remaining_s)
            image_format = admitted.image_format
            with self._input_budget.reserve(admitted.rows_bytes):
                with model.batcher.reserve(admitted.rows):
                    pixels = await self._image_reader.read(admitted, deadline)
                del admitted  # the files in it are not needed while the rows wait
                images = await _compute(model, pixels, image_format, deadline)
                del pixels
            return await _serialize(pb.TranslateResponse, model, images, image_format)

    async def list_models(self, body: bytes, context: _Context) -> bytes:
        """Answers a serialised ListModelsRequest with a serialised ListModelsResponse."""
        async with self._parser.parsed(pb.ListModelsRequest, body):
            served = [
                model_message(model, max_rows(model.card, self._config), max_input_bytes(model.card, self._config))
                for model in self._catalog.values()
            ]
        return pb.ListModelsResponse(models=served).SerializeToString()

    async def _admit_latents(self, body: bytes, remaining_s: float | None) -> tuple[ServedModel, AdmittedLatents]:
        async with self._parser.parsed(pb.GenerateRequest, body) as request:
            model = self._find_model(request)
            return model, await in_thread_if(
                is_thread_worthy(len(body)),
                admit_latents,
                sent_latents(request),
                format_name(request),
                remaining_s,
                model.card,
                self._config,
            )

    async def _admit_images(self, body: bytes, remaining_s: float | None) -> tuple[ServedModel, AdmittedImages]:
        async with self._parser.parsed(pb.TranslateRequest, body) as request:
            model = self._find_model(request)
            return model, await in_thread_if(
                is_thread_worthy(len(body)),
                admit_images,
                sent_images(request),
                format_name(request),
                remaining_s,
                model.card,
                self._config,
                resize=request.resize,
            )

    def _find_model(self, request: pb.GenerateRequest | pb.TranslateRequest) -> ServedModel:
        note_model(request.model)
        served = {name: model.card.version for name, model in self._catalog.items()}
        return self._catalog[find_model(request.model, request.version, served)]


def _time_left(context: _Context) -> tuple[float | None, float]:
    """Seconds until the caller's deadline, None if it set none; and the deadline on the event loop's clock."""
    remaining_s: float | None = context.time_remaining()  # None without a deadline, whatever its stub says
    return remaining_s, math.inf if remaining_s is None else asyncio.get_running_loop().time() + remaining_s


async def _compute(
    model: ServedModel, inputs: NDArray[Any], image_format: ImageFormat, deadline: float
) -> NDArray[Any]:
    """Computes the images of some rows, as the format wants them."""
    output = OUTPUT_IMAGES if image_format is ImageFormat.FLOAT32 else OUTPUT_PIXELS
    return (await model.batcher.submit(inputs, frozenset({output}), deadline))[output]


async def _serialize(
    kind: type[Response], model: ServedModel, images: NDArray[Any], image_format: ImageFormat
) -> bytes:
    slow = image_format in ENCODERS or is_thread_worthy(images.nbytes)
    return await in_thread_if(slow, serialize_response, kind, model, images, image_format)
