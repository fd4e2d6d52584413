"""One server and what it serves: calls with a deadline, and the list of its models. Knows no chunks and no images."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import grpc

from client.channel import DEFAULT_ADDRESS, open_channel
from client.errors import GanClientError, InvalidRequest, UnknownModel, from_rpc_error
from client.model_info import ModelInfo, Task, models_from, newest
from client.wire import check_model, check_response
from ganserve.v1 import generator_pb2
from ganserve.v1.generator_pb2_grpc import GeneratorStub

DEFAULT_TIMEOUT_S = 30.0
MAX_TIMEOUT_S: Final = 86_400.0

_MAX_LISTED: Final = 20  # names in a message

_OTHER_CALLS: Final[dict[Task, str]] = {
    "generate": "makes images from latents; use GanClient.generate, or ganclient grid",
    "translate": "turns images into other images; use GanClient.translate, or ganclient translate",
    "unknown": "does what this client does not know yet; use a newer client",
}

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class Connection:
    """A connection to one server; safe to share between threads.

    Args:
        address: HOST:PORT, [IPV6]:PORT, dns:///HOST:PORT or unix:PATH.
        timeout_s: The deadline of each request, retries included, in seconds.

    Raises:
        InvalidRequest: an argument is out of range.
    """

    def __init__(self, address: str = DEFAULT_ADDRESS, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        if not 0 < timeout_s <= MAX_TIMEOUT_S:
            raise InvalidRequest(f"timeout_s: must be more than 0 and at most {MAX_TIMEOUT_S:g}, not {timeout_s!r:.60}")
        self._address = address
        self.timeout_s = timeout_s
        self._channel = open_channel(address)
        self._stub = GeneratorStub(self._channel)  # type: ignore[no-untyped-call]  # generated
        self._listed: list[ModelInfo] = []  # what ListModels said last
        self._closed = False

    def models(self) -> list[ModelInfo]:
        """The models that are ready to serve.

        Raises:
            GanClientError: the server does not answer, or not as it must.
        """
        response: generator_pb2.ListModelsResponse = self._call(
            self._stub.ListModels, generator_pb2.ListModelsRequest()
        )
        self._listed = models_from(response)
        return list(self._listed)

    def find(self, model: str, version: int | None, task: Task) -> ModelInfo:
        """The served model of this name, for this task; the newest version for None.

        Raises:
            InvalidRequest: the arguments cannot be, or the model is for the other task.
            UnknownModel: it is not served.
            GanClientError: the server does not answer, or not as it must.
        """
        check_model(model, version)
        served = newest(self._listed, model, version) or newest(self.models(), model, version)
        if served is None:
            raise self._unknown_model(model, version)
        if served.task != task:
            self._listed = []  # it may be served for this task next time
            raise InvalidRequest(f"model: {model!r} {_OTHER_CALLS[served.task]}")
        return served

    def generate(self, request: generator_pb2.GenerateRequest) -> generator_pb2.GenerateResponse:
        """Calls Generate.

        Raises:
            GanClientError: there is no answer, or it is from another model.
        """
        response: generator_pb2.GenerateResponse = self._ask(self._stub.Generate, request)
        check_response(request, response)
        return response

    def translate(self, request: generator_pb2.TranslateRequest) -> generator_pb2.TranslateResponse:
        """Calls Translate.

        Raises:
            GanClientError: there is no answer, or it is from another model.
        """
        response: generator_pb2.TranslateResponse = self._ask(self._stub.Translate, request)
        check_response(request, response)
        return response

    def close(self) -> None:
        """Closes the connection; calls after this raise."""
        self._closed = True
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _unknown_model(self, model: str, version: int | None) -> UnknownModel:
        versions = sorted(served.version for served in self._listed if served.name == model)
        names = sorted({served.name for served in self._listed})
        if versions:
            listed = ", ".join(map(str, versions[-_MAX_LISTED:]))
            return UnknownModel(f"version {version} of {model!r} is not served; served are: {listed}")
        if names:
            listed = ", ".join(names[:_MAX_LISTED]) + (", ..." if len(names) > _MAX_LISTED else "")
            return UnknownModel(f"no model {model!r:.80} is served; served are: {listed}")
        return UnknownModel(f"no model {model!r:.80} is served, nor any other, at {self._address}")

    def _ask(self, method: Callable[..., Any], request: Any) -> Any:
        try:
            return self._call(method, request)
        except GanClientError:
            self._listed = []  # the server may be another one by now, with other limits
            raise

    def _call(self, method: Callable[..., _Response], request: _Request) -> _Response:
        if self._closed:
            raise InvalidRequest("this client is closed; make a new GanClient")
        try:
            return method(request, timeout=self.timeout_s)
        except grpc.RpcError as error:
            raise from_rpc_error(error, self._address, self.timeout_s) from error
