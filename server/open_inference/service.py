"""inference.GRPCInferenceService: the Open Inference Protocol v2, as Triton's own clients and load generators speak it.

What is not here (shared memory, trace and log settings) is UNIMPLEMENTED.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import grpc
from tritonclient.grpc import service_pb2 as pb

from ganserve.foreign import version_of
from server.config import ServerConfig
from server.errors import NotServed, Unavailable
from server.models.catalog import Catalog, ServedModel, find_model
from server.models.lifecycle import Models
from server.open_inference.infer import ModelInfer
from server.open_inference.metadata import config_message, metadata_message, statistics_message
from server.open_inference.repository import RepositoryControl
from server.open_inference.stream import METHOD as STREAM_METHOD
from server.open_inference.stream import stream_handler
from server.open_inference.tensors import contract_of
from server.open_inference.validation import read_version
from server.request import Call
from server.rpc.byte_budget import ByteBudget
from server.rpc.handler import Behaviour, RequestHandler
from server.rpc.parsing import MessageParser

SERVICE: Final[str] = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
# Answered while the server starts and drains, too.
UNGATED: Final = frozenset({"ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata"})

_NAME: Final = "ganserve"
_EXTENSIONS: Final = ("model_configuration", "schedule_policy", "statistics")


class InferenceService:
    """Answers from the models in a catalog, within the limits of a config.

    Args:
        catalog: what is served.
        models: which can be loaded and unloaded.
        input_budget: the bytes that input which is in work may take.
        parser: parses large requests.
        is_ready: whether requests are let in now.
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
        self._parser = parser
        self._is_ready = is_ready
        self._config = config
        self._version = version_of(_NAME)
        self._model_infer = ModelInfer(catalog, input_budget, parser, config)
        self._repository_control = RepositoryControl(models, parser, config)

    def behaviours(self) -> dict[str, Behaviour]:
        """The methods by name, but for the one that streams."""
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

    def method_handlers(self, handler: RequestHandler) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """The handlers of all methods by name."""
        handlers = {
            method: handler.unary(method, behaviour, gated=method not in UNGATED)
            for method, behaviour in self.behaviours().items()
        }
        return {**handlers, STREAM_METHOD: stream_handler(self._model_infer, handler)}

    async def server_live(self, _: bytes, __: Call) -> bytes:
        """Answers with a serialised ServerLiveResponse."""
        return _serialized(pb.ServerLiveResponse(live=True))

    async def server_ready(self, _: bytes, __: Call) -> bytes:
        """Answers with a serialised ServerReadyResponse."""
        return _serialized(pb.ServerReadyResponse(ready=self._is_ready()))

    async def server_metadata(self, _: bytes, __: Call) -> bytes:
        """Answers with a serialised ServerMetadataResponse."""
        extensions = [*_EXTENSIONS, *(["model_repository"] if self._config.model_control == "explicit" else [])]
        return _serialized(pb.ServerMetadataResponse(name=_NAME, version=self._version, extensions=sorted(extensions)))

    async def model_ready(self, body: bytes, call: Call) -> bytes:
        """Answers a serialised ModelReadyRequest with a serialised ModelReadyResponse."""
        async with self._parser.parsed_small(pb.ModelReadyRequest, body) as request:
            try:
                ready = self._is_ready() and self._find(request.name, request.version, call).ready
            except (NotServed, Unavailable):
                ready = False
        return _serialized(pb.ModelReadyResponse(ready=ready))

    async def model_metadata(self, body: bytes, call: Call) -> bytes:
        """Answers a serialised ModelMetadataRequest with a serialised ModelMetadataResponse."""
        async with self._parser.parsed_small(pb.ModelMetadataRequest, body) as request:
            model = self._find(request.name, request.version, call)
        return _serialized(metadata_message(model, contract_of(model.card, self._config)))

    async def model_config(self, body: bytes, call: Call) -> bytes:
        """Answers a serialised ModelConfigRequest with a serialised ModelConfigResponse."""
        async with self._parser.parsed_small(pb.ModelConfigRequest, body) as request:
            model = self._find(request.name, request.version, call)
        config = config_message(model, contract_of(model.card, self._config), self._config)
        return _serialized(pb.ModelConfigResponse(config=config))

    async def model_statistics(self, body: bytes, call: Call) -> bytes:
        """Answers a serialised ModelStatisticsRequest with a serialised ModelStatisticsResponse; no name means all."""
        async with self._parser.parsed_small(pb.ModelStatisticsRequest, body) as request:
            named = [self._find(request.name, request.version, call)] if request.name else self._catalog.values()
        return _serialized(pb.ModelStatisticsResponse(model_stats=[statistics_message(model) for model in named]))

    def _find(self, name: str, version: str, call: Call) -> ServedModel:
        call.model = name
        number = read_version(version)
        if not self._catalog:
            raise Unavailable("no model is served now: wait until one is loaded, or load one")
        served = {name: model.card.version for name, model in self._catalog.items()}
        model = self._catalog[find_model(name, number, served)]
        call.version = model.card.version
        return model


def _serialized(message: Any) -> bytes:
    serialized: bytes = message.SerializeToString()
    return serialized
