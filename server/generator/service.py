"""The service ganserve.v1.Generator: takes a request through admission, reading, batching and encoding."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ganserve.bundle import OUTPUT_IMAGES, OUTPUT_PIXELS
from ganserve.v1 import generator_pb2 as pb
from server.config import MESSAGE_OVERHEAD_BYTES, ServerConfig
from server.errors import InvalidRequest, ServerError
from server.fronts.base import Methods
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
from server.rpc.handler import Behaviour, RequestHandler
from server.rpc.parsing import THREAD_WORTHY_BYTES, MessageParser, parse, parse_small, run_in_thread

SERVICE: Final[str] = pb.DESCRIPTOR.services_by_name["Generator"].full_name

_COSTLY_SEED_BYTES: Final = 4 << 10  # drawing fewer takes as long as reserving room for them: microseconds
_TINY_BYTES: Final = 16 << 10  # of a request; a larger one gains little from company
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

    def methods(self, handler: RequestHandler) -> Methods:
        """Returns all methods by name."""
        together = {"Generate": self.generate_together}
        return {
            method: handler.unary(method, behaviour, together=together.get(method))
            for method, behaviour in self.behaviours().items()
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

    def generate_together(self, bodies: Sequence[bytes], requests: Sequence[InFlightRequest]) -> list[bytes | None]:
        """Answers requests to tiny models that came together, and want images as tensors, as one batch per model.

        Those to larger models are left to `generate`, and their rows get into one batch. Whatever is special about a
        request, such as an error, is left to `generate`, too.

        Args:
            bodies: serialised GenerateRequests.
            requests: one for each.

        Returns:
            For each request a serialised GenerateResponse, or None if `generate` has to answer it.
        """
        answers: list[bytes | None] = [None] * len(bodies)
        alike: dict[tuple[ServedModel, ImageFormat], list[tuple[int, NDArray[Any]]]] = {}
        now = asyncio.get_running_loop().time()
        for index, body in enumerate(bodies):
            read = self._read_tiny(body) if requests[index].deadline > now else None
            if read is not None:
                model, image_format, latents = read
                alike.setdefault((model, image_format), []).append((index, latents))
        for (model, image_format), sent in alike.items():
            if not model.batcher.rows_at_once:
                if len(sent) > 1:
                    model.batcher.expect_more()  # otherwise the first of them would be a batch of its own
                continue
            for chosen in _within(sent, model.batcher.rows_at_once):
                answered = [requests[index] for index, _ in chosen]
                made = _generate_at_once(model, image_format, [latents for _, latents in chosen], answered)
                for (index, _), answer in zip(chosen, made, strict=False):
                    answers[index] = answer
        return answers

    def _read_tiny(self, body: bytes) -> tuple[ServedModel, ImageFormat, NDArray[Any]] | None:
        """Returns the model, the format and the latents of a request; None if there is anything special about it."""
        if len(body) > _TINY_BYTES:
            return None
        try:
            message = parse(pb.GenerateRequest, body)
            model = self._catalog.resolve(message.model, wanted_version(message))
            if model is None:
                return None
            admitted = admit_latents(sent_latents(message), format_name(message), model.contract)
            if admitted.image_format in ENCODERS or admitted.latents_bytes > _TINY_BYTES:
                return None
            return model, admitted.image_format, read_latents(admitted)
        except ServerError:
            return None

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


def _within(sent: Sequence[tuple[int, NDArray[Any]]], most_rows: int) -> list[list[tuple[int, NDArray[Any]]]]:
    """Divides requests, in their order, into batches of at most this many rows; leaves out those with more."""
    batches: list[list[tuple[int, NDArray[Any]]]] = []
    room = 0
    for index, latents in sent:
        rows = len(latents)
        if rows > most_rows:
            continue
        if rows > room:
            batches.append([])
            room = most_rows
        batches[-1].append((index, latents))
        room -= rows
    return batches


def _generate_at_once(
    model: ServedModel,
    image_format: ImageFormat,
    latents: Sequence[NDArray[Any]],
    requests: Sequence[InFlightRequest],
) -> list[bytes]:
    """Returns the answers to requests with these latents; none if they have to be answered one by one."""
    output = OUTPUT_OF[image_format]
    rows = [len(sent) for sent in latents]

    def serialize(outputs: Mapping[str, NDArray[Any]]) -> list[bytes]:
        parts = np.split(outputs[output], np.cumsum(rows[:-1]))
        return [serialize_response(pb.GenerateResponse, model.card, images, image_format) for images in parts]

    return model.answer_at_once(np.concatenate(latents), _ONLY[output], requests, rows, serialize)


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
