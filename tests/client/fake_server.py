"""A ganserve server in this process whose responses a test controls; images are simple functions of the input."""

from __future__ import annotations

import io
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health, health_pb2_grpc
from numpy.typing import NDArray
from PIL import Image

from ganserve.latents import DISTRIBUTIONS, NORMAL, latents_from_seed
from ganserve.pictures import fit_picture
from ganserve.v1 import generator_pb2 as pb
from ganserve.v1.generator_pb2_grpc import GeneratorServicer, add_GeneratorServicer_to_server

INPUT_SIZE = (4, 3)  # height and width of the translator's input

Answer = Callable[[pb.GenerateRequest], pb.GenerateResponse]
TranslateAnswer = Callable[[pb.TranslateRequest], pb.TranslateResponse]


def model(name: str = "dcgan", version: int = 3, **fields: Any) -> pb.Model:
    defaults: dict[str, Any] = {
        "kind": "dcgan",
        "architecture": "dcgan",
        "dataset": "digits",
        "latent_dim": 6,
        "latent_distribution": "normal",
        "channels": 1,
        "height": 4,
        "width": 3,
        "device": "cpu",
        "backend": "onnx",
        "max_request_rows": 1024,
    }
    return pb.Model(name=name, version=version, **(defaults | fields))


def _known(distribution: str) -> str:
    """For a distribution of a newer server, any will do: the client cannot tell."""
    return distribution if distribution in DISTRIBUTIONS else NORMAL


def translator(name: str = "a2b", version: int = 5, **fields: Any) -> pb.Model:
    height, width = INPUT_SIZE
    defaults: dict[str, Any] = {
        "kind": "cyclegan",
        "architecture": "cyclegan",
        "dataset": "photos",
        "task": pb.TASK_TRANSLATE,
        "latent_dim": 0,
        "latent_distribution": "",
        "channels": 3,
        "height": height,
        "width": width,
        "input_image": pb.ImageShape(channels=3, height=height, width=width),
    }
    return model(name, version, **(defaults | fields))


def rows_of(request: pb.GenerateRequest | pb.TranslateRequest) -> int:
    """The number of images that a request asks for."""
    if isinstance(request, pb.GenerateRequest):
        return request.seeded.count if request.WhichOneof("input") == "seeded" else request.latents.shape[0]
    return request.pixels.shape[0] if request.WhichOneof("input") == "pixels" else len(request.encoded.data)


def pixels_of(latents: NDArray[np.float32], height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """Images that differ between latents, uint8 (rows, height, width, channels)."""
    values = np.resize(np.arange(1, 8, dtype=np.float32), height * width * channels)
    images: NDArray[np.float32] = np.abs(latents.sum(axis=1, keepdims=True) * 1000 * values) % 256
    return images.astype(np.uint8).reshape(len(latents), height, width, channels)


def tensor(array: NDArray[Any]) -> pb.Tensor:
    data_type = pb.DATA_TYPE_UINT8 if array.dtype == np.uint8 else pb.DATA_TYPE_FLOAT32
    return pb.Tensor(dtype=data_type, shape=array.shape, data=array.tobytes())


class FakeServer(GeneratorServicer):
    """Records requests. Responds with `failures` first, then with `answer` if set, then with images."""

    def __init__(self) -> None:
        self.models = [model(), translator()]
        self.failures: deque[tuple[grpc.StatusCode, str]] = deque()
        self.answer: Answer | None = None
        self.generate_answer: Callable[[pb.GenerateRequest, grpc.ServicerContext], pb.GenerateResponse] | None = None
        self.translate_answer: TranslateAnswer | None = None
        self.description: pb.DescribeModelResponse | None = None  # instead of the default
        self.cards: dict[str, dict[str, Any]] = {}  # further fields of cards, by model
        self.describe_failures: deque[tuple[grpc.StatusCode, str]] = deque()
        self.ready = True
        self.health: Any = health.HealthServicer()  # serving, until a test sets it otherwise
        self.requests: list[pb.GenerateRequest] = []
        self.translations: list[pb.TranslateRequest] = []
        self.rows_in_time = 1 << 20  # Translate requests with more rows miss their deadline
        self.list_calls = 0
        self.authorizations: list[str | None] = []  # of each Generate and ListModels request
        self.peers: set[str] = set()  # the connections of Generate requests
        self.received = threading.Event()  # a Generate request has arrived
        self.released = threading.Event()  # Generate requests wait for this; set from the start
        self.released.set()
        self.address = ""

    def ListModels(self, request: pb.ListModelsRequest, context: grpc.ServicerContext) -> pb.ListModelsResponse:  # noqa: N802  (gRPC's name)
        self.list_calls += 1
        self._note_authorization(context)
        return pb.ListModelsResponse(models=self.models)

    def DescribeModel(  # noqa: N802  (gRPC's name)
        self, request: pb.DescribeModelRequest, context: grpc.ServicerContext
    ) -> pb.DescribeModelResponse:
        if self.describe_failures:
            context.abort(*self.describe_failures.popleft())
        if self.description is not None:
            return self.description
        served = [entry for entry in self.models if entry.name == request.model]
        if not served or request.version not in (0, *(entry.version for entry in served)):
            context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.model!r} is served")
        found = next((entry for entry in served if entry.version == request.version), served[-1])
        known = {"name": found.name, "version": found.version, "dataset": found.dataset}
        card = json.dumps(known | self.cards.get(found.name, {}))
        return pb.DescribeModelResponse(model=found, card=card, precision="fp32", ready=self.ready)

    def Generate(self, request: pb.GenerateRequest, context: grpc.ServicerContext) -> pb.GenerateResponse:  # noqa: N802  (gRPC's name)
        if self.generate_answer:  # replaces everything below
            return self.generate_answer(request, context)
        self.requests.append(request)
        self._note_authorization(context)
        self.peers.add(context.peer())
        self.received.set()
        self.released.wait(timeout=30)
        if self.failures:
            context.abort(*self.failures.popleft())
        if self.answer:
            return self.answer(request)
        served = [entry for entry in self.models if entry.name == request.model]
        if not served:
            names = ", ".join(entry.name for entry in self.models)
            context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.model!r}; served are: {names}")
        if request.WhichOneof("input") == "seeded" and request.seeded.count > served[0].max_request_rows:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"count: at most {served[0].max_request_rows}")
        return self.images_for(request)

    def images_for(self, request: pb.GenerateRequest) -> pb.GenerateResponse:
        """The correct response."""
        served = max((entry for entry in self.models if entry.name == request.model), key=lambda entry: entry.version)
        if request.WhichOneof("input") == "seeded":
            latents = latents_from_seed(
                request.seeded.seed, request.seeded.count, served.latent_dim, _known(served.latent_distribution)
            )
        else:
            latents = np.frombuffer(request.latents.data, "<f4").reshape(tuple(request.latents.shape))
        pixels = pixels_of(latents, served.height, served.width, served.channels)
        response = pb.GenerateResponse(model=served.name, version=request.version or served.version)
        fill(response, pixels, request.format)
        return response

    def Translate(self, request: pb.TranslateRequest, context: grpc.ServicerContext) -> pb.TranslateResponse:  # noqa: N802  (gRPC's name)
        self.translations.append(request)
        self.received.set()
        self.released.wait(timeout=30)
        if self.failures:
            context.abort(*self.failures.popleft())
        if rows_of(request) > self.rows_in_time:
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "too slow")
        if self.translate_answer:
            return self.translate_answer(request)
        try:
            return self.translation_for(request)
        except RefusedError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    def translation_for(self, request: pb.TranslateRequest) -> pb.TranslateResponse:
        """The correct response: the negative of each image."""
        served = max((entry for entry in self.models if entry.name == request.model), key=lambda entry: entry.version)
        if request.WhichOneof("input") == "pixels":
            pixels = np.frombuffer(request.pixels.data, np.uint8).reshape(tuple(request.pixels.shape))
        else:
            size = (served.input_image.width, served.input_image.height)
            rows = [read(index, file, size, request.resize) for index, file in enumerate(request.encoded.data)]
            pixels = np.stack(rows)
        if len(pixels) > served.max_request_rows:
            raise RefusedError(f"{len(pixels)} rows are too many for one request")
        response = pb.TranslateResponse(model=served.name, version=request.version or served.version)
        fill(response, 255 - pixels, request.format)
        return response

    @contextmanager
    def serve(
        self,
        address: str = "127.0.0.1:0",
        *,
        max_received_bytes: int = -1,
        credentials: grpc.ServerCredentials | None = None,
        has_health: bool = True,
    ) -> Iterator[FakeServer]:
        """Listens on a free port or unix:PATH until the block ends; speaks TLS with `credentials`."""
        options = [("grpc.max_receive_message_length", max_received_bytes), ("grpc.max_send_message_length", -1)]
        with futures.ThreadPoolExecutor(max_workers=4) as workers:
            server = grpc.server(workers, options=options)
            add_GeneratorServicer_to_server(self, server)  # type: ignore[no-untyped-call]  # generated
            if has_health:
                health_pb2_grpc.add_HealthServicer_to_server(self.health, server)
            if credentials is None:
                port = server.add_insecure_port(address)
            else:
                port = server.add_secure_port(address, credentials)
            server.start()
            self.address = address if address.startswith("unix:") else f"127.0.0.1:{port}"
            try:
                yield self
            finally:
                self.released.set()
                server.stop(None).wait(timeout=10)

    def _note_authorization(self, context: grpc.ServicerContext) -> None:
        found = [str(value) for key, value in context.invocation_metadata() or () if key == "authorization"]
        self.authorizations.append(found[0] if found else None)


class RefusedError(Exception):
    """The request is INVALID_ARGUMENT."""


def read(index: int, file: bytes, size: tuple[int, int], resize: bool) -> NDArray[np.uint8]:
    """uint8 (height, width, 3)."""
    try:
        with Image.open(io.BytesIO(file), formats=("PNG", "JPEG")) as image:
            rgb = image.convert("RGB")
    except (OSError, SyntaxError) as error:
        raise RefusedError(f"encoded.data[{index}] is no image") from error
    if rgb.size != size and not resize:
        raise RefusedError(f"encoded.data[{index}] is {rgb.width}x{rgb.height}, not {size[0]}x{size[1]}: set resize")
    return np.asarray(fit_picture(rgb, *size))


def fill(
    response: pb.GenerateResponse | pb.TranslateResponse, pixels: NDArray[np.uint8], image_format: pb.ImageFormat
) -> None:
    """Puts pixels into a response, in the requested format."""
    if image_format == pb.IMAGE_FORMAT_PNG:
        response.encoded.data.extend(encoded(image) for image in pixels)
    elif image_format == pb.IMAGE_FORMAT_JPEG:
        response.encoded.data.extend(encoded(image, "JPEG") for image in pixels)
    elif image_format == pb.IMAGE_FORMAT_FLOAT32:
        response.images.CopyFrom(tensor(pixels.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1))
    else:
        response.images.CopyFrom(tensor(pixels))


def encoded(image: NDArray[np.uint8], file_format: str = "PNG") -> bytes:
    """An image file of (height, width, channels)."""
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, file_format)
    return file.getvalue()


def waits_for_three(server: FakeServer) -> None:
    """Answers requests with a pinned version only once three of them have arrived."""
    together = threading.Barrier(3)

    def answer(request: pb.GenerateRequest) -> pb.GenerateResponse:
        if request.version:
            together.wait(timeout=20)
        return server.images_for(request)

    server.answer = answer
