"""A ganserve server in this process whose answers a test controls; its images are a plain function of the latents."""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganserve.latents import latents_from_seed
from ganserve.v1 import generator_pb2 as pb
from ganserve.v1.generator_pb2_grpc import GeneratorServicer, add_GeneratorServicer_to_server

Answer = Callable[[pb.GenerateRequest], pb.GenerateResponse]


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


def pixels_of(latents: NDArray[np.float32], height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """uint8 (rows, height, width, channels) that tell one latent from another."""
    values = np.resize(np.arange(1, 8, dtype=np.float32), height * width * channels)
    images: NDArray[np.float32] = np.abs(latents.sum(axis=1, keepdims=True) * 1000 * values) % 256
    return images.astype(np.uint8).reshape(len(latents), height, width, channels)


def tensor(array: NDArray[Any]) -> pb.Tensor:
    data_type = pb.DATA_TYPE_UINT8 if array.dtype == np.uint8 else pb.DATA_TYPE_FLOAT32
    return pb.Tensor(dtype=data_type, shape=array.shape, data=array.tobytes())


class FakeServer(GeneratorServicer):
    """Records what it is sent; `failures` come first, then `answer` if set, then images."""

    def __init__(self) -> None:
        self.models = [model()]
        self.failures: deque[tuple[grpc.StatusCode, str]] = deque()
        self.answer: Answer | None = None
        self.requests: list[pb.GenerateRequest] = []
        self.list_calls = 0
        self.received = threading.Event()  # a Generate has come in
        self.released = threading.Event()  # let Generates go on; set from the start
        self.released.set()
        self.address = ""

    def ListModels(self, request: pb.ListModelsRequest, context: grpc.ServicerContext) -> pb.ListModelsResponse:  # noqa: N802  (gRPC's name)
        self.list_calls += 1
        return pb.ListModelsResponse(models=self.models)

    def Generate(self, request: pb.GenerateRequest, context: grpc.ServicerContext) -> pb.GenerateResponse:  # noqa: N802  (gRPC's name)
        self.requests.append(request)
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
        """The right answer."""
        served = max((entry for entry in self.models if entry.name == request.model), key=lambda entry: entry.version)
        if request.WhichOneof("input") == "seeded":
            latents = latents_from_seed(request.seeded.seed, request.seeded.count, served.latent_dim)
        else:
            latents = np.frombuffer(request.latents.data, "<f4").reshape(tuple(request.latents.shape))
        pixels = pixels_of(latents, served.height, served.width, served.channels)
        response = pb.GenerateResponse(model=served.name, version=request.version or served.version)
        if request.format == pb.IMAGE_FORMAT_PNG:
            response.png.data.extend(png(image) for image in pixels)
        elif request.format == pb.IMAGE_FORMAT_FLOAT32:
            floats = pixels.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
            response.images.CopyFrom(tensor(floats))
        else:
            response.images.CopyFrom(tensor(pixels))
        return response

    @contextmanager
    def serve(self, address: str = "127.0.0.1:0") -> Iterator[FakeServer]:
        """Listens on a free port until the block ends."""
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        with futures.ThreadPoolExecutor(max_workers=4) as workers:
            server = grpc.server(workers, options=options)
            add_GeneratorServicer_to_server(self, server)  # type: ignore[no-untyped-call]  # generated
            port = server.add_insecure_port(address)
            server.start()
            self.address = f"127.0.0.1:{port}"
            try:
                yield self
            finally:
                self.released.set()
                server.stop(None).wait(timeout=10)


def png(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, "PNG")
    return file.getvalue()
