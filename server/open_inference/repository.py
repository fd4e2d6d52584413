"""The model repository methods of the Open Inference Protocol: list, load and unload models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tritonclient.grpc import service_pb2 as pb

from server.config import ServerConfig
from server.daemon_threads import OneAtATime
from server.errors import InvalidRequest, NotAllowed
from server.limits import quote
from server.models.lifecycle import Models
from server.request import InFlightRequest
from server.rpc.handler import Behaviour
from server.rpc.parsing import MessageParser

_READY: Final = "READY"
_UNLOAD_DEPENDENTS: Final = "unload_dependents"  # Triton's clients always send it; no model here depends on another


class RepositoryControl:
    """Lists, loads and unloads models.

    Args:
        models: loads and unloads the served models.
        parser: parses large requests.
        config: whether clients may load and unload models.
    """

    def __init__(self, models: Models, parser: MessageParser, config: ServerConfig) -> None:
        self._models = models
        self._parser = parser
        self._config = config
        self._disk = OneAtATime()

    def behaviours(self) -> dict[str, Behaviour]:
        """Returns the methods by name."""
        return {
            "RepositoryIndex": self.index,
            "RepositoryModelLoad": self.load,
            "RepositoryModelUnload": self.unload,
        }

    async def index(self, body: bytes, _: InFlightRequest) -> bytes:
        """Answers a serialised RepositoryIndexRequest with a serialised RepositoryIndexResponse."""
        async with self._parser.parsed(pb.RepositoryIndexRequest, body) as message:
            _check_repository(message.repository_name)
            only_ready = message.ready
        entries = await self._disk.run(self._models.index)
        response = pb.RepositoryIndexResponse()
        for entry in entries:
            if entry.state == _READY or not only_ready:
                response.models.add(name=entry.name, version=str(entry.version), state=entry.state, reason=entry.reason)
        answer: bytes = response.SerializeToString()
        return answer

    async def load(self, body: bytes, request: InFlightRequest) -> bytes:
        """Answers a serialised RepositoryModelLoadRequest once the versions of its policy are served."""
        await self._models.load(await self._named(pb.RepositoryModelLoadRequest, body, request))
        return b""

    async def unload(self, body: bytes, request: InFlightRequest) -> bytes:
        """Answers a serialised RepositoryModelUnloadRequest once the model's requests are answered and it is freed."""
        await self._models.unload(await self._named(pb.RepositoryModelUnloadRequest, body, request))
        return b""

    async def _named(
        self,
        kind: type[pb.RepositoryModelLoadRequest | pb.RepositoryModelUnloadRequest],
        body: bytes,
        request: InFlightRequest,
    ) -> str:
        """Returns the name of the model to load or unload."""
        if self._config.model_control == "none":
            raise NotAllowed("clients may not load or unload models: start the server with --model-control explicit")
        async with self._parser.parsed(kind, body) as message:
            name: str = message.model_name
            request.model = name
            _check_repository(message.repository_name)
            _check_parameters(message.parameters)
        if not name:
            raise InvalidRequest("model_name is empty: name the model")
        return name


def _check_repository(name: str) -> None:
    if name:
        raise InvalidRequest(f"repository_name is {quote(name)}: there is one repository, so leave it empty")


def _check_parameters(parameters: Mapping[str, pb.ModelRepositoryParameter]) -> None:
    for name, value in parameters.items():
        if name != _UNLOAD_DEPENDENTS or value.WhichOneof("parameter_choice") != "bool_param" or value.bool_param:
            raise InvalidRequest(f"parameter {quote(name)} is not supported: models are served as exported")
