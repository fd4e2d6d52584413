"""ganserve.v1.Generator: the way of a request through admission, reading, batching and encoding. Decides nothing."""

from __future__ import annotations

import time
from typing import Any, Final

from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from ganserve.bundle import OUTPUT_IMAGES, OUTPUT_PIXELS
from ganserve.v1 import generator_pb2 as pb
from server.config import MESSAGE_OVERHEAD_BYTES, ServerConfig
from server.errors import InvalidRequest
from server.generator.encoding import ENCODERS
from server.generator.image_reader import ImageReader
from server.generator.images import AdmittedImages, admit_images
from server.generator.latents import AdmittedLatents, SeededLatents, admit_latents, read_latents
from server.generator.messages import (
    Response,
    description_message,
    format_name,
    model_message,
    sent_images,
    sent_latents,
    serialize_response,
)
from server.limits import ImageFormat, max_input_bytes, max_rows
from server.models.catalog import Catalog, ServedModel, find_model
from server.request import Call
from server.rpc.byte_budget import ByteBudget
from server.rpc.handler import Behaviour
from server.rpc.parsing import MessageParser, in_thread_if, is_thread_worthy, refuse_message, run_in_thread

SERVICE: Final[str] = pb.DESCRIPTOR.services_by_name["Generator"].full_name

_COSTLY_SEED_BYTES: Final = 4 << 10  # fewer are drawn in some microseconds, and reserving room costs two itself
_ONLY: Final = {output: frozenset({output}) for output in (OUTPUT_IMAGES, OUTPUT_PIXELS)}


class GeneratorService:
    """Answers from the models in a catalog, within the limits of a config.

    Args:
        catalog: what is served.
        image_reader: reads the images that are to be translated.
        input_budget: the bytes that images, and large requests, which are in work may take.
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

    def behaviours(self) -> dict[str, Behaviour]:
        """What each method does, by its name."""
        return {
            "Generate": self.generate,
            "Translate": self.translate,
            "ListModels": self.list_models,
            "DescribeModel": self.describe_model,
        }

    async def generate(self, body: bytes, call: Call) -> bytes:
        """Answers a serialised GenerateRequest with a serialised GenerateResponse."""
        if len(body) > self._config.max_latents_bytes + MESSAGE_OVERHEAD_BYTES:
            raise InvalidRequest(
                f"the request has {len(body)} bytes, and latents may have {self._config.max_latents_bytes}:"
                " send fewer rows at a time"
            )
        if not is_thread_worthy(len(body)):
            return await self._generate(body, call)
        with self._input_budget.reserve(len(body)):  # gRPC keeps it until the answer is made
            return await self._generate(body, call)

    async def _generate(self, body: bytes, call: Call) -> bytes:
        model, admitted = await self._admit_latents(body, call)
        size = admitted.latents_bytes
        slow = is_thread_worthy(size)
        if slow or (size >= _COSTLY_SEED_BYTES and isinstance(admitted.source, SeededLatents)):
            with model.batcher.reserve(admitted.rows):  # so that nothing is done for a request that would be refused
                latents = await in_thread_if(slow, read_latents, admitted)
        else:
            latents = read_latents(admitted)
        images = await _compute(model, latents, admitted.image_format, call)
        return await _serialize(pb.GenerateResponse, model, images, admitted.image_format, call)

    async def translate(self, body: bytes, call: Call) -> bytes:
        """Answers a serialised TranslateRequest with a serialised TranslateResponse."""
        with self._input_budget.reserve(len(body)):  # gRPC keeps it until the answer is made
            model, admitted = await self._admit_images(body, call)
            image_format = admitted.image_format
            with self._input_budget.reserve(admitted.rows_bytes):
                with model.batcher.reserve(admitted.rows):
                    pixels = await self._image_reader.read(admitted, call.deadline)
                del admitted  # the files in it are not needed while the rows wait
                images = await _compute(model, pixels, image_format, call)
                del pixels
            return await _serialize(pb.TranslateResponse, model, images, image_format, call)

    async def list_models(self, body: bytes, _: Call) -> bytes:
        """Answers a serialised ListModelsRequest with a serialised ListModelsResponse."""
        async with self._parser.parsed_small(pb.ListModelsRequest, body):
            served = [self._model_message(model) for model in self._catalog.values()]
        return pb.ListModelsResponse(models=served).SerializeToString()

    async def describe_model(self, body: bytes, call: Call) -> bytes:
        """Answers a serialised DescribeModelRequest with a serialised DescribeModelResponse."""
        async with self._parser.parsed_small(pb.DescribeModelRequest, body) as request:
            model = self._find_model(request, call)
        return description_message(model, self._model_message(model)).SerializeToString()

    def _model_message(self, model: ServedModel) -> pb.Model:
        return model_message(model, max_rows(model.card, self._config), max_input_bytes(model.card, self._config))

    async def _admit_latents(self, body: bytes, call: Call) -> tuple[ServedModel, AdmittedLatents]:
        if not is_thread_worthy(len(body)):  # most are small, and are parsed in the fewest steps
            try:
                request = pb.GenerateRequest.FromString(body)
            except DecodeError as error:
                raise refuse_message(pb.GenerateRequest) from error
            model = self._find_model(request, call)
            return model, self._admit_parsed_latents(request, model, call)
        async with self._parser.parsed(pb.GenerateRequest, body) as request:
            model = self._find_model(request, call)
            return model, await run_in_thread(self._admit_parsed_latents, request, model, call)

    def _admit_parsed_latents(self, request: pb.GenerateRequest, model: ServedModel, call: Call) -> AdmittedLatents:
        latents, name = sent_latents(request), format_name(request)
        admitted = admit_latents(latents, name, call.remaining_s, model.card, self._config)
        call.rows = admitted.rows
        return admitted

    async def _admit_images(self, body: bytes, call: Call) -> tuple[ServedModel, AdmittedImages]:
        async with self._parser.parsed(pb.TranslateRequest, body) as request:
            model = self._find_model(request, call)
            admitted = await in_thread_if(
                is_thread_worthy(len(body)),
                admit_images,
                sent_images(request),
                format_name(request),
                call.remaining_s,
                model.card,
                self._config,
                resize=request.resize,
            )
            call.rows = admitted.rows
            return model, admitted

    def _find_model(
        self, request: pb.GenerateRequest | pb.TranslateRequest | pb.DescribeModelRequest, call: Call
    ) -> ServedModel:
        call.model = request.model
        model = self._catalog.get(request.model)
        if model is None or request.version not in (0, model.card.version):
            served = {name: model.card.version for name, model in self._catalog.items()}
            model = self._catalog[find_model(request.model, request.version, served)]
        call.use(model)
        call.version = model.card.version
        return model


async def _compute(model: ServedModel, inputs: NDArray[Any], image_format: ImageFormat, call: Call) -> NDArray[Any]:
    """Computes the images of some rows, as the format wants them."""
    began_s = time.perf_counter()
    call.admission_s = began_s - call.began_s
    output = OUTPUT_IMAGES if image_format is ImageFormat.FLOAT32 else OUTPUT_PIXELS
    images = (await model.batcher.submit(inputs, _ONLY[output], call.deadline))[output]
    call.compute_s = time.perf_counter() - began_s
    return images


async def _serialize(
    kind: type[Response], model: ServedModel, images: NDArray[Any], image_format: ImageFormat, call: Call
) -> bytes:
    began_s = time.perf_counter()
    # An array is copied here however large it is: that keeps the interpreter's lock, so a thread would not help.
    slow = image_format in ENCODERS
    answer = await in_thread_if(slow, serialize_response, kind, model, images, image_format)
    call.encode_s = time.perf_counter() - began_s
    return answer
