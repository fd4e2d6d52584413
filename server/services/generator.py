"""ganserve.v1.Generator: protobuf messages to plain values and back. Decides nothing, computes nothing."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

import grpc
import numpy as np
from numpy.typing import NDArray

from exporter.bundle import OUTPUT_IMAGES, OUTPUT_PIXELS
from ganserve.v1 import generator_pb2 as pb
from server.admission import ImageFormat, SeededLatents, SentLatents, admit, find_model, max_rows, read_latents
from server.catalog import Catalog
from server.config import ServerConfig
from server.encoding import encode_png

SERVICE: Final[str] = pb.DESCRIPTOR.services_by_name["Generator"].full_name

# Work on fewer bytes than this is done sooner than a thread takes it over.
_THREAD_WORTHY_BYTES: Final = 256 << 10

# A shape may have millions of axes; this many are enough to see that it is wrong.
_SHAPE_LENGTH: Final = 5

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class GeneratorService:
    """Answers from the models in a catalog, within the limits of a config."""

    def __init__(self, catalog: Catalog, config: ServerConfig) -> None:
        self._catalog = catalog
        self._config = config

    def handlers(self) -> grpc.GenericRpcHandler:
        """What to add to a gRPC server.

        Generate answers in bytes, already serialised, because doing that to many images would hold up the event loop.
        """
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Generate": grpc.unary_unary_rpc_method_handler(self.generate, pb.GenerateRequest.FromString, None),
                "ListModels": grpc.unary_unary_rpc_method_handler(
                    self.list_models, pb.ListModelsRequest.FromString, pb.ListModelsResponse.SerializeToString
                ),
            },
        )

    async def generate(self, request: pb.GenerateRequest, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        """Answers Generate with a serialised GenerateResponse."""
        remaining_s: float | None = context.time_remaining()  # None without a deadline, whatever its stub says
        deadline = math.inf if remaining_s is None else asyncio.get_running_loop().time() + remaining_s
        served = {name: model.card.version for name, model in self._catalog.items()}
        model = self._catalog[find_model(request.model, request.version, served)]
        admitted = admit(_source(request), _format_name(request.format), remaining_s, model.card, self._config)
        latents = await _in_thread_if(admitted.latents_bytes, read_latents, admitted)
        output = OUTPUT_IMAGES if admitted.image_format is ImageFormat.FLOAT32 else OUTPUT_PIXELS
        images = (await model.batcher.submit(latents, frozenset({output}), deadline))[output]
        name, version = model.card.name, model.card.version
        if admitted.image_format is ImageFormat.PNG:
            return await asyncio.to_thread(_png_response, name, version, images)
        return await _in_thread_if(images.nbytes, _tensor_response, name, version, images)

    async def list_models(
        self, request: pb.ListModelsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListModelsResponse:
        """Answers ListModels."""
        return pb.ListModelsResponse(
            models=[
                pb.Model(
                    name=model.card.name,
                    version=model.card.version,
                    kind=model.card.kind,
                    architecture=model.card.architecture,
                    dataset=model.card.dataset,
                    latent_dim=model.card.latent_dim,
                    latent_distribution=model.card.latent_distribution,
                    channels=model.card.channels,
                    height=model.card.height,
                    width=model.card.width,
                    device=model.device,
                    backend=model.backend,
                    max_request_rows=max_rows(model.card, self._config),
                )
                for model in self._catalog.values()
            ]
        )


async def _in_thread_if(
    size_bytes: int, function: Callable[_Arguments, _Result], *args: _Arguments.args, **kwargs: _Arguments.kwargs
) -> _Result:
    if size_bytes < _THREAD_WORTHY_BYTES:
        return function(*args, **kwargs)
    return await asyncio.to_thread(function, *args, **kwargs)


def _source(request: pb.GenerateRequest) -> SentLatents | SeededLatents | None:
    match request.WhichOneof("input"):
        case "latents":
            tensor = request.latents
            shape = tuple(tensor.shape[:_SHAPE_LENGTH])
            return SentLatents(_enum_name(pb.DataType, tensor.dtype, "DATA_TYPE_"), shape, tensor.data)
        case "seeded":
            return SeededLatents(request.seeded.seed, request.seeded.count)
        case _:
            return None


def _format_name(number: int) -> str:
    number = number or pb.IMAGE_FORMAT_PIXELS  # the default
    return _enum_name(pb.ImageFormat, number, "IMAGE_FORMAT_")


def _enum_name(enum: Any, number: int, prefix: str) -> str:
    """The name without its prefix; the number itself if the protocol does not define it."""
    return str(enum.Name(number)).removeprefix(prefix) if number in enum.values() else str(number)


def _tensor_response(name: str, version: int, images: NDArray[Any]) -> bytes:
    float32 = images.dtype == np.float32
    little_endian = images.astype(images.dtype.newbyteorder("<"), copy=False)
    tensor = pb.Tensor(
        dtype=pb.DATA_TYPE_FLOAT32 if float32 else pb.DATA_TYPE_UINT8, shape=images.shape, data=little_endian.tobytes()
    )
    return pb.GenerateResponse(model=name, version=version, images=tensor).SerializeToString()


def _png_response(name: str, version: int, pixels: NDArray[np.uint8]) -> bytes:
    png = pb.PngImages(data=encode_png(pixels))
    return pb.GenerateResponse(model=name, version=version, png=png).SerializeToString()
