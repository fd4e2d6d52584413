"""Requests as bytes, answers as images.

A load generator repeats one prepared body; `ask` is a client that decodes the answer.
"""

from __future__ import annotations

import http.client
import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from benchmarks.peers.served_graph import ServedGraph
from ganserve.bundle import INPUT_LATENTS, OUTPUT_IMAGES

MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
_ASK_TIMEOUT_S = 30.0
_MAX_CONNECTIONS = 8
_GRPC_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # otherwise a new channel inherits the backoff of an earlier one
]


class WrongAnswerError(Exception):
    """A server answered with something other than the expected images."""


class Protocol(ABC):
    """A protocol for image requests."""

    path: str
    overhead_bytes: int  # bytes of an answer's body in addition to the message

    @abstractmethod
    def message(self, graph: ServedGraph, rows: int) -> bytes:
        """A request for `graph.latents(rows)`."""

    @abstractmethod
    def body(self, message: bytes) -> bytes:
        """The body of an HTTP request that carries a message."""

    @abstractmethod
    def send(self, port: int, message: bytes) -> bytes:
        """Sends a request to 127.0.0.1 and returns the answer's message.

        Raises:
            OSError: there is no answer.
            WrongAnswerError: the answer is an error.
        """

    @abstractmethod
    def images(self, answer: bytes) -> NDArray[np.float32]:
        """The images of an answer's message.

        Raises:
            WrongAnswerError: the answer holds no images.
        """

    @abstractmethod
    def load_flags(self, concurrency: int) -> list[str]:
        """Flags of h2load for this many concurrent requests."""

    def ask(self, port: int, graph: ServedGraph, rows: int) -> tuple[NDArray[np.float32], int]:
        """Returns the images of `graph.latents(rows)`, flat, and the size of the answer's body in bytes."""
        answer = self.send(port, self.message(graph, rows))
        return self.images(answer).ravel(), len(answer) + self.overhead_bytes


class OpenInference(Protocol):
    """ModelInfer of the Open Inference Protocol, with tensors as raw bytes."""

    path = MODEL_INFER
    overhead_bytes = 5  # gRPC's frame: a flag and the length

    def message(self, graph: ServedGraph, rows: int) -> bytes:
        """See `Protocol`."""
        request = service_pb2.ModelInferRequest(model_name=graph.name)
        tensor = request.inputs.add(name=INPUT_LATENTS, datatype="FP32")
        tensor.shape.extend((rows, graph.latent_dim))
        request.outputs.add(name=OUTPUT_IMAGES)
        request.raw_input_contents.append(graph.latents(rows).tobytes())
        serialized: bytes = request.SerializeToString()
        return serialized

    def body(self, message: bytes) -> bytes:
        """See `Protocol`."""
        return struct.pack(">BI", 0, len(message)) + message

    def send(self, port: int, message: bytes) -> bytes:
        """See `Protocol`."""
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=_GRPC_OPTIONS) as channel:
            call: Any = channel.unary_unary(self.path)
            try:
                answer: bytes = call(message, timeout=_ASK_TIMEOUT_S)
            except grpc.RpcError as error:
                status: Any = error
                if status.code() is grpc.StatusCode.UNAVAILABLE:
                    raise OSError(status.details()) from error
                raise WrongAnswerError(f"{status.code().name}: {status.details()}") from error
        return answer

    def images(self, answer: bytes) -> NDArray[np.float32]:
        """See `Protocol`."""
        try:
            response = service_pb2.ModelInferResponse.FromString(answer)
        except DecodeError as error:
            raise WrongAnswerError("not a ModelInferResponse") from error
        outputs = [(output.name, output.datatype) for output in response.outputs]
        if outputs != [(OUTPUT_IMAGES, "FP32")] or len(response.raw_output_contents) != 1:
            raise WrongAnswerError(f"expected only {OUTPUT_IMAGES} as raw FP32, got {outputs}")
        return np.frombuffer(response.raw_output_contents[0], np.float32)

    def load_flags(self, concurrency: int) -> list[str]:
        """See `Protocol`."""
        connections = connections_for(concurrency)
        flags = ["-c", str(connections), "-m", str(concurrency // connections)]
        return [*flags, "-H", "content-type: application/grpc", "-H", "te: trailers"]


class RawHttp(Protocol):
    """HTTP/1.1 with bodies of raw float32."""

    overhead_bytes = 0

    def __init__(self, path: str) -> None:
        self.path = path

    def message(self, graph: ServedGraph, rows: int) -> bytes:
        """See `Protocol`."""
        return graph.latents(rows).tobytes()

    def body(self, message: bytes) -> bytes:
        """See `Protocol`."""
        return message

    def send(self, port: int, message: bytes) -> bytes:
        """See `Protocol`."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ASK_TIMEOUT_S)
        try:
            connection.request("POST", self.path, message, {"content-type": "application/octet-stream"})
            response = connection.getresponse()
            answer = response.read()
        except http.client.HTTPException as error:
            raise OSError(f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            raise WrongAnswerError(f"HTTP status {response.status}: {answer[:200]!r}")
        return answer

    def images(self, answer: bytes) -> NDArray[np.float32]:
        """See `Protocol`."""
        if len(answer) % 4:
            raise WrongAnswerError(f"{len(answer)} bytes are not float32")
        return np.frombuffer(answer, np.float32)

    def load_flags(self, concurrency: int) -> list[str]:
        """See `Protocol`."""
        return ["--h1", "-c", str(concurrency), "-H", "content-type: application/octet-stream"]


def connections_for(concurrency: int) -> int:
    """The number of connections that share this many concurrent requests evenly; at most 8."""
    return max(count for count in range(1, _MAX_CONNECTIONS + 1) if concurrency % count == 0)


def check_images(got: NDArray[np.float32], expected: NDArray[np.float32], tolerance: float) -> float:
    """Returns the largest difference, as a share of the largest expected value.

    Raises:
        WrongAnswerError: it is above `tolerance`, or the number of values differs.
    """
    expected = expected.ravel()
    if got.shape != expected.shape:
        raise WrongAnswerError(f"got {got.size} values, expected {expected.size}")
    difference = float(np.abs(got - expected).max() / np.abs(expected).max())
    if not difference <= tolerance:  # also true for NaN
        raise WrongAnswerError(f"the images differ from ONNX Runtime's by {difference:.2g} of their largest value")
    return difference


def checked_rows(cell_rows: Sequence[int]) -> list[int]:
    """The request sizes to check: the measured ones, and always 1 and 64."""
    return sorted({1, 64, *cell_rows})
