"""ModelInfer requests and a fake batcher, for tests of the Open Inference Protocol."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import InferenceServerException

from ganserve.bundle import OUTPUT_IMAGES, OUTPUT_PIXELS, Card
from server.config import ServerConfig
from server.limits import contract_of
from server.models.catalog import Catalog, ServedModel
from server.open_inference.infer import ModelInfer
from server.request import InFlightRequest
from server.rpc.byte_budget import ByteBudget
from server.rpc.parsing import MessageParser
from server.scheduling.queue import DEFAULT_PRIORITY
from server.statistics import ModelStatistics

_DATATYPES = {"float32": "FP32", "uint8": "UINT8"}


def infer_request(rows: NDArray[Any], **more: Any) -> pb.ModelInferRequest:
    """A request to "tiny" with latents or to "tiny-a2b" with pixels, for all outputs; `more` sets other fields."""
    name, model = ("latents", "tiny") if rows.dtype == np.float32 else ("input_pixels", "tiny-a2b")
    tensor = pb.ModelInferRequest.InferInputTensor(name=name, datatype=_DATATYPES[rows.dtype.name], shape=rows.shape)
    return pb.ModelInferRequest(
        **{"model_name": model, "inputs": [tensor], "raw_input_contents": [rows.tobytes()], **more}
    )


def requested(*names: str) -> list[Any]:
    """The outputs of a request."""
    return [pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in names]


def parameter(value: Any) -> pb.InferParameter:
    """A parameter in the field for the type of the value; numbers go into int64_param."""
    field = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}[type(value)]
    return pb.InferParameter(**{field: value})


def array_of(response: pb.ModelInferResponse, name: str) -> NDArray[Any]:
    """An output of an answer."""
    index = [tensor.name for tensor in response.outputs].index(name)
    tensor = response.outputs[index]
    dtype = {"FP32": "<f4", "UINT8": "u1"}[tensor.datatype]
    return np.frombuffer(response.raw_output_contents[index], dtype).reshape(tuple(tensor.shape))


def arrived(method: str = "ModelInfer", **more: Any) -> InFlightRequest:
    """A request that has just arrived."""
    return InFlightRequest(method, time.perf_counter(), **more)


def input_of(rows: Any, name: str = "latents", datatype: str = "FP32") -> Any:
    """An input of Triton's clients."""
    tensor = triton.InferInput(name, rows.shape, datatype)
    tensor.set_data_from_numpy(rows)
    return tensor


async def refusal(answer: Awaitable[Any]) -> tuple[str, str]:
    """Returns the status and the message of a refusal by Triton's client."""
    with pytest.raises(InferenceServerException) as error:
        await answer
    return str(error.value.status()).removeprefix("StatusCode."), error.value.message()


class FakeBatcher:
    """Records what is submitted, and answers it at once, or when the test releases it.

    Each value of a row's images is the first value of the row, and each value of its pixels the same, cut to uint8.
    """

    broken = False
    rows_at_once = 0

    def __init__(self, card: Card, *, held: bool = False) -> None:
        self._card = card
        self._held = held
        self.submitted: list[tuple[NDArray[Any], frozenset[str], float, int]] = []
        self.cancelled = 0
        self.expected = 0  # how often it was told that requests follow
        self._released: list[asyncio.Event] = []

    async def submit(
        self,
        inputs: NDArray[Any],
        outputs: frozenset[str],
        deadline: float = math.inf,
        priority: int = DEFAULT_PRIORITY,
    ) -> dict[str, NDArray[Any]]:
        released = asyncio.Event()
        self.submitted.append((inputs, outputs, deadline, priority))
        self._released.append(released)
        if self._held:
            try:
                await released.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        return {name: array for name, array in self._compute(inputs).items() if name in outputs}

    def release(self, number: int) -> None:
        """Releases one request, counted from 0 in the order of submission."""
        self._released[number].set()

    def expect_more(self) -> None:
        """Counts that it was called."""
        self.expected += 1

    def hurry(self) -> None:
        """Does nothing."""

    def _compute(self, inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        card, rows = self._card, len(inputs)
        first = inputs.reshape(rows, -1)[:, :1].astype(np.float32)
        images = np.repeat(first, card.channels * card.height * card.width, axis=1)
        return {
            OUTPUT_IMAGES: images.reshape(rows, card.channels, card.height, card.width),
            OUTPUT_PIXELS: images.astype(np.uint8).reshape(rows, card.height, card.width, card.channels),
        }


def served(card: Card, batcher: Any, **limits: Any) -> ServedModel:
    """A model with a fake batcher."""
    return ServedModel(contract_of(card, ServerConfig(**limits)), "onnx", "cpu", "fp32", batcher, ModelStatistics())


def model_infer(card: Card, batcher: FakeBatcher, budget_bytes: int = 1 << 30, **limits: Any) -> ModelInfer:
    """Answers for one model from its fake batcher."""
    catalog = Catalog()
    catalog.add(served(card, batcher, **limits))
    return ModelInfer(catalog, ByteBudget(budget_bytes), MessageParser())
