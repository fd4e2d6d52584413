"""The service ganserve.v1.Generator: takes a request through admission, reading, batching and encoding."""

from __future__ import annotations

import time
from typing import Any, Final

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
    wanted_version,
)
from server.limits import OUTPUT_OF, ImageFormat
from server.models.catalog import Catalog, ServedModel
from server.request import InFlightRequest
from server.rpc.byte_budget import ByteBudget
from server.rpc.handler import Behaviour
from server.rpc.parsing import THREAD_WORTHY_BYTES, MessageParser, parse, parse_small, run_in_thread

SERVICE: Final[str] = pb.DESCRIPTOR.services_by_name["Generator"].full_name

_COSTLY_SEED_BYTES: Final = 4 << 10  # drawing fewer takes as long as reserving room for them: microseconds
_ONLY: Final = {output: frozenset({output}) for output in (OUTPUT_IMAGES, OUTPUT_PIXELS)}


class GeneratorService:
    """Answers from the models in a catalog, within the limits of a config.

    Args:
        catalog: the served models.
        image_reader: reads the images to translate.
        input_budget: bounds the bytes of all images and large requests in progress.
        config: the limits.
    """

    def __init__(
        self, catalog: Catalog, image_reader: ImageReader, input_budget: ByteBudget, config: ServerConfig
    ) -> None:
        self._catalog = catalog
        self._image_reader = image_reader
        self._input_budget = input_budget
        self._max_latents_bytes = config.max_latents_bytes
        self._parser = MessageParser()

    def behaviours(self) -> dict[str, Behaviour]:
        """Returns the methods by name."""
        return {
            "Generate": self.generate,
            "Translate": self.translate,
            "ListModels": self.list_models,
            "DescribeModel": self.describe_model,
        }

    async def generate(self, body: bytes, request: InFlightRequest) -> bytes:
        """Answers a serialised GenerateRequest with a serialised GenerateResponse."""
        if len(body) > self._max_latents_bytes + MESSAGE_OVERHEAD_BYTES:
            raise InvalidRequest(
                f"the request has {len(body)} bytes, and latents may have {self._max_latents_bytes}:"
                " send fewer rows at a time"
            )
        if len(body) < THREAD_WORTHY_BYTES:
            message = parse(pb.GenerateRequest, body)
            model = self._catalog.find(message.model, wanted_version(message), request)
            admitted = admit_latents(sent_latents(message), format_name(message), model.contract)
            del message
            return await self._generate(model, admitted, request)
        with self._input_budget.reserve(len(body)):  # gRPC keeps the body until the answer is made
            async with self._parser.parsed(pb.GenerateRequest, body) as message:
                model = self._catalog.find(message.model, wanted_version(message), request)
                sent = sent_latents(message)
                admitted = await run_in_thread(admit_latents, sent, format_name(message), model.contract)
            del message, sent
            return await self._generate(model, admitted, request)

    async def _generate(self, model: ServedModel, admitted: AdmittedLatents, request: InFlightRequest) -> bytes:
        request.rows = admitted.rows
        slow = admitted.latents_bytes >= THREAD_WORTHY_BYTES
        if slow or (admitted.latents_bytes >= _COSTLY_SEED_BYTES and isinstance(admitted.source, SeededLatents)):
            with model.batcher.reserve(admitted.rows, request.deadline):  # no work for a request that would be refused
                latents = await run_in_thread(read_latents, admitted) if slow else read_latents(admitted)
        else:
            latents = read_latents(admitted)
        images = await _compute(model, latents, admitted.image_format, request)
        return await _serialize(pb.GenerateResponse, model, images, admitted.image_format, request)

    async def translate(self, body: bytes, request: InFlightRequest) -> bytes:
        """Answers a serialised TranslateRequest with a serialised TranslateResponse."""
        with self._input_budget.reserve(len(body)):  # gRPC keeps the body until the answer is made
            model, admitted = await self._admit_images(body, request)
            image_format = admitted.image_format
            with self._input_budget.reserve(admitted.rows_bytes):
                with model.batcher.reserve(admitted.rows, request.deadline):
                    pixels = await self._image_reader.read(admitted, request.deadline)
                del admitted  # its files are not needed while the rows wait
                images = await _compute(model, pixels, image_format, request)
                del pixels
            return await _serialize(pb.TranslateResponse, model, images, image_format, request)

    async def _admit_images(self, body: bytes, request: InFlightRequest) -> tuple[ServedModel, AdmittedImages]:
        async with self._parser.parsed(pb.TranslateRequest, body) as message:
            model = self._catalog.find(message.model, wanted_version(message), request)
            checks = (sent_images(message), format_name(message), model.contract, message.resize)
            slow = len(body) >= THREAD_WORTHY_BYTES
            admitted = await run_in_thread(admit_images, *checks) if slow else admit_images(*checks)
            request.rows = admitted.rows
            return model, admitted

    async def list_models(self, body: bytes, _: InFlightRequest) -> bytes:
        """Answers a serialised ListModelsRequest with a serialised ListModelsResponse."""
        parse_small(pb.ListModelsRequest, body)
        served = [self._listed(model) for model in self._catalog.versions()]
        return pb.ListModelsResponse(models=served).SerializeToString()

    async def describe_model(self, body: bytes, request: InFlightRequest) -> bytes:
        """Answers a serialised DescribeModelRequest with a serialised DescribeModelResponse."""
        message = parse_small(pb.DescribeModelRequest, body)
        model = self._catalog.find(message.model, wanted_version(message), request)
        return description_message(model, self._listed(model)).SerializeToString()

    def _listed(self, model: ServedModel) -> pb.Model:
        labels = self._catalog.settings(model.card.name).labels_of(model.card.version)
        return model_message(model, labels, is_default=self._catalog.get(model.card.name) is model)


async def _compute(
    model: ServedModel, inputs: NDArray[Any], image_format: ImageFormat, request: InFlightRequest
) -> NDArray[Any]:
    """Computes the images of some rows: float32 for FLOAT32, pixels for every other format."""
    began_s = time.perf_counter()
    request.admission_s = began_s - request.began_s
    output = OUTPUT_OF[image_format]
    images = (await model.batcher.submit(inputs, _ONLY[output], request.deadline))[output]
    request.compute_s = time.perf_counter() - began_s
    return images


async def _serialize(
    kind: type[Response],
    model: ServedModel,
    images: NDArray[Any],
    image_format: ImageFormat,
    request: InFlightRequest,
) -> bytes:
    began_s = time.perf_counter()
    if image_format in ENCODERS:
        answer = await run_in_thread(serialize_response, kind, model.card, images, image_format)
    else:  # copying an array holds the GIL, so a thread would not help
        answer = serialize_response(kind, model.card, images, image_format)
    request.encode_s = time.perf_counter() - began_s
    return answer
