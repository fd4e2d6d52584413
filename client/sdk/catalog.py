"""Caches the list of served models, and refreshes it when it may have changed."""

from __future__ import annotations

from typing import Any, Final

from client.errors import InvalidRequest, UnknownModel
from client.sdk.messages import check_model, version_fields
from client.sdk.model_info import ModelDescription, ModelInfo, Task, description_from, models_from, selected
from client.sdk.steps import Steps, unary
from ganserve.v1 import generator_pb2

_MAX_LISTED: Final = 20  # names in a message

_OTHER_CALLS: Final[dict[Task, str]] = {
    "generate": "makes images from latents; use GanClient.generate, or ganclient grid",
    "translate": "turns images into other images; use GanClient.translate, or ganclient translate",
    "unknown": "has a task that this client does not know; use a newer client",
}


class Catalog:
    """The models of one server.

    Args:
        address: Of the server, for messages.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._listed: list[ModelInfo] = []  # from the last ListModels

    def models(self) -> Steps[Any, list[ModelInfo]]:
        """Asks for the models that are ready to serve.

        Raises:
            GanClientError: The server does not answer, or its response is invalid.
        """
        response = yield from unary("ListModels", generator_pb2.ListModelsRequest())
        self._listed = models_from(response)
        return list(self._listed)

    def info(self, model: str, version: int | str | None) -> Steps[Any, ModelInfo]:
        """Asks for the entry of one model; the default version for None.

        Raises:
            InvalidRequest: An argument is invalid.
            UnknownModel: The model is not served.
            GanClientError: The server does not answer, or its response is invalid.
        """
        check_model(model, version)
        served = selected((yield from self.models()), model, version)
        if served is None:
            raise self._unknown_model(model, version)
        return served

    def find(self, model: str, version: int | str | None, task: Task) -> Steps[Any, ModelInfo]:
        """Like `info`, for a model of this task; asks the server only if the cached list lacks the model.

        Raises:
            InvalidRequest: An argument is invalid, or the model has another task.
            UnknownModel: The model is not served.
            GanClientError: The server does not answer, or its response is invalid.
        """
        check_model(model, version)
        served = selected(self._listed, model, version)
        if served is None:
            served = yield from self.info(model, version)
        if served.task != task:
            self.forget()  # a newer version may have this task
            raise InvalidRequest(f"model: {model!r} {_OTHER_CALLS[served.task]}")
        return served

    def describe(self, model: str, version: int | str | None) -> Steps[Any, ModelDescription]:
        """Asks for everything known about one model.

        Raises:
            UnknownModel: The model is not served.
            UnsupportedByServer: The server is too old for this call.
            GanClientError: The server does not answer, or its response is invalid.
        """
        check_model(model, version)
        request = generator_pb2.DescribeModelRequest(model=model, **version_fields(version))
        return description_from(request, (yield from unary("DescribeModel", request)))

    def healthy(self, model: str | None) -> Steps[Any, bool]:
        """Asks whether the server is ready, and whether it serves `model` if one is named.

        Raises:
            GanClientError: The server does not answer, or has no health service.
        """
        from grpc_health.v1 import health_pb2  # needed for health checks only

        if model is not None:
            check_model(model, None)
        response = yield from unary("Check", health_pb2.HealthCheckRequest())
        if response.status != health_pb2.HealthCheckResponse.SERVING:
            return False
        return model is None or selected((yield from self.models()), model, None) is not None

    def forget(self) -> None:
        """Makes the next call ask again: a restarted server may have other models and limits."""
        self._listed = []

    def _unknown_model(self, model: str, version: int | str | None) -> UnknownModel:
        versions = sorted(served.version for served in self._listed if served.name == model)
        names = sorted({served.name for served in self._listed})
        if versions and isinstance(version, str):
            labels = sorted(
                {label for served in self._listed if served.name == model for label in served.version_labels}
            )
            known = f"its labels: {', '.join(labels[:_MAX_LISTED])}" if labels else "it has none"
            return UnknownModel(f"no served version of {model!r} has the label {version!r}; {known}")
        if versions:
            listed = ", ".join(map(str, versions[-_MAX_LISTED:]))
            return UnknownModel(f"version {version} of {model!r} is not served; served versions: {listed}")
        if names:
            listed = ", ".join(names[:_MAX_LISTED]) + (", ..." if len(names) > _MAX_LISTED else "")
            return UnknownModel(f"no model {model!r:.80} is served; served models: {listed}")
        return UnknownModel(f"no model {model!r:.80} is served at {self.address}, which serves no models")
