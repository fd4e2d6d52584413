"""The service inference.GRPCInferenceService: the Open Inference Protocol v2, for Triton's clients and load generators.

Shared memory, trace settings and log settings are UNIMPLEMENTED.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tritonclient.grpc import service_pb2 as pb

from ganserve.foreign import version_of
from server.config import ServerConfig
from server.errors import NotServed, Unavailable
from server.fronts.base import Methods
from server.models.catalog import Catalog, ServedModel
from server.models.lifecycle import Models
from server.open_inference.infer import STREAM_METHOD, ModelInfer
from server.open_inference.metadata import config_message, metadata_message, statistics_message
from server.open_inference.repository import RepositoryControl
from server.open_inference.stream import stream_method
from server.open_inference.validation import read_version
from server.request import InFlightRequest
from server.rpc.byte_budget import ByteBudget
from server.rpc.handler import Behaviour, RequestHandler
from server.rpc.parsing import MessageParser, parse_small

SERVICE: Final[str] = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
# Answered even while the server starts and drains.
UNGATED: Final = frozenset({"ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata"})

_NAME: Final = "ganserve"
_EXTENSIONS: Final = ("model_configuration", "schedule_policy", "statistics")


class InferenceService:
    """Answers from the models in a catalog, within the limits of a config.

    Args:
        catalog: the served models.
        models: loads and unloads them.
        input_budget: bounds the bytes of all images and large requests in progress.
        parser: parses large requests.
        is_ready: whether requests are accepted now.
        config: the limits.
    """

    def __init__(
        self,
        catalog: Catalog,
        models: Models,
        input_budget: ByteBudget,
        parser: MessageParser,
        is_ready: Callable[[], bool],
        config: ServerConfig,
    ) -> None:
        self._catalog = catalog
        self._is_ready = is_ready
        self._config = config
        self._version = version_of(_NAME)
        self._model_infer = ModelInfer(catalog, input_budget, parser)
        self._repository_control = RepositoryControl(models, parser, config)

    def behaviours(self) -> dict[str, Behaviour]:
        """Returns the unary methods by name."""
        return {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ServerMetadata": self.server_metadata,
            "ModelReady": self.model_ready,
            "ModelMetadata": self.model_metadata,
            "ModelConfig": self.model_config,
            "ModelStatistics": self.model_statistics,
            "ModelInfer": self._model_infer.infer,
            **self._repository_control.behaviours(),
        }

    def methods(self, handler: RequestHandler) -> Methods:
        """Returns all methods by name."""
        together = {"ModelInfer": self._model_infer.infer_together}
        unary = {
            method: handler.unary(method, behaviour, gated=method not in UNGATED, together=together.get(method))
            for method, behaviour in self.behaviours().items()
        }
        return {**unary, STREAM_METHOD: stream_method(self._model_infer, handler)}

    async def server_live(self, _: bytes, __: InFlightRequest) -> bytes:
        """Answers with a serialised ServerLiveResponse."""
        return _serialized(pb.ServerLiveResponse(live=True))

    async def server_ready(self, _: bytes, __: InFlightRequest) -> bytes:
        """Answers with a serialised ServerReadyResponse."""
        return _serialized(pb.ServerReadyResponse(ready=self._is_ready()))

    async def server_metadata(self, _: bytes, __: InFlightRequest) -> bytes:
        """Answers with a serialised ServerMetadataResponse."""
        extensions = [*_EXTENSIONS, *(["model_repository"] if self._config.model_control != "none" else [])]
        return _serialized(pb.ServerMetadataResponse(name=_NAME, version=self._version, extensions=sorted(extensions)))

    async def model_ready(self, body: bytes, request: InFlightRequest) -> bytes:
        """Answers a serialised ModelReadyRequest with a serialised ModelReadyResponse."""
        message = parse_small(pb.ModelReadyRequest, body)
        try:
            ready = self._is_ready() and self._find(message, request).ready
        except (NotServed, Unavailable):
            ready = False
        return _serialized(pb.ModelReadyResponse(ready=ready))

    async def model_metadata(self, body: bytes, request: InFlightRequest) -> bytes:
        """Answers a serialised ModelMetadataRequest with a serialised ModelMetadataResponse."""
        model = self._find(parse_small(pb.ModelMetadataRequest, body), request)
        return _serialized(metadata_message(model, self._catalog.versions(model.card.name)))

    async def model_config(self, body: bytes, request: InFlightRequest) -> bytes:
        """Answers a serialised ModelConfigRequest with a serialised ModelConfigResponse."""
        model = self._find(parse_small(pb.ModelConfigRequest, body), request)
        return _serialized(
            pb.ModelConfigResponse(config=config_message(model, self._catalog.settings(model.card.name)))
        )

    async def model_statistics(self, body: bytes, request: InFlightRequest) -> bytes:
        """Answers a serialised ModelStatisticsRequest with a serialised ModelStatisticsResponse.

        No version means all served versions of the model, and no name those of all models.
        """
        message = parse_small(pb.ModelStatisticsRequest, body)
        named = [self._find(message, request)] if message.name else self._catalog.versions()
        if message.name and not message.version:
            named = self._catalog.versions(message.name)
        return _serialized(pb.ModelStatisticsResponse(model_stats=[statistics_message(model) for model in named]))

    def _find(self, message: Any, request: InFlightRequest) -> ServedModel:
        """Returns the model of the name and version in a message."""
        request.model = message.name
        version = read_version(message.version)
        if not self._catalog:
            raise Unavailable("no model is served: wait until one is loaded, or load one")
        return self._catalog.find(message.name, version, request)


def _serialized(message: Any) -> bytes:
    serialized: bytes = message.SerializeToString()
    return serialized
