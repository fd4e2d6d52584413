"""Requests for the tiny translator "tiny-a2b", and the refusals of bad ones."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from ganserve.v1 import generator_pb2 as pb
from ganserve.v1.generator_pb2_grpc import GeneratorStub
from tests.picture_files import encoded, noise

INVALID = grpc.StatusCode.INVALID_ARGUMENT
SIZE = (4, 6)  # height, width of the tiny translator
GOOD = encoded(noise(*SIZE, 3))


def stub_of(channel: grpc.aio.Channel) -> Any:
    """Typed Any, because the generated stub does not say that it is async."""
    make_stub: Any = GeneratorStub
    return make_stub(channel)


def raw(pixels: NDArray[np.uint8], **more: Any) -> pb.TranslateRequest:
    """A request with pixels (rows, height, width, channels)."""
    tensor = pb.Tensor(dtype=pb.DATA_TYPE_UINT8, shape=pixels.shape, data=pixels.tobytes())
    return pb.TranslateRequest(**{"model": "tiny-a2b", "pixels": tensor, **more})


def files(*data: bytes, **more: Any) -> pb.TranslateRequest:
    """A request with image files."""
    return pb.TranslateRequest(**{"model": "tiny-a2b", "encoded": pb.EncodedImages(data=data), **more})


async def refusal(stub: Any, request: pb.TranslateRequest, **more: Any) -> tuple[grpc.StatusCode, str]:
    """Returns status and details of a request that must be refused."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stub.Translate(request, **more)
    return error.value.code(), error.value.details() or ""
