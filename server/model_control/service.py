"""The service ganserve.v1.ModelControl: lists versions, loads and unloads them, and goes back to an older one."""

from __future__ import annotations

from typing import Any, Final

from ganserve.v1 import model_control_pb2 as pb
from server.config import ServerConfig
from server.daemon_threads import OneAtATime
from server.errors import InvalidRequest, NotAllowed, NotServed
from server.limits import quote
from server.models.lifecycle import IndexEntry, Models
from server.request import InFlightRequest
from server.rpc.handler import Behaviour
from server.rpc.parsing import parse_small

SERVICE: Final[str] = pb.DESCRIPTOR.services_by_name["ModelControl"].full_name


class ModelControlService:
    """Answers from the models of a server, if its config allows it.

    Args:
        models: loads and unloads them.
        config: whether clients may do so.
    """

    def __init__(self, models: Models, config: ServerConfig) -> None:
        self._models = models
        self._disk = OneAtATime()
        self._config = config

    def behaviours(self) -> dict[str, Behaviour]:
        """Returns the methods by name."""
        return {
            "ListVersions": self.list_versions,
            "LoadModel": self.load_model,
            "UnloadModel": self.unload_model,
            "RollbackModel": self.roll_back_model,
        }

    async def list_versions(self, body: bytes, request: InFlightRequest) -> bytes:
        """Answers a serialised ListVersionsRequest with a serialised ListVersionsResponse."""
        request.model = parse_small(pb.ListVersionsRequest, body).model
        versions = await self._versions(request.model or None)
        if request.model and not versions:
            raise NotServed(f"no model {quote(request.model)} is in the repository: list all models to see their names")
        return pb.ListVersionsResponse(versions=versions).SerializeToString()

    async def load_model(self, body: bytes, request: InFlightRequest) -> bytes:
        """Answers a serialised LoadModelRequest once the versions are served."""
        message = self._change(pb.LoadModelRequest, body, request)
        version = None
        if message.WhichOneof("choice") == "version":
            version = message.version
            if version < 1:
                raise InvalidRequest(f"version is {version}: name a version of at least 1, or none")
        await self._models.load(message.model, version, newest=message.newest)
        return pb.LoadModelResponse(versions=await self._versions(message.model)).SerializeToString()

    async def unload_model(self, body: bytes, request: InFlightRequest) -> bytes:
        """Answers a serialised UnloadModelRequest once all requests are answered."""
        message = self._change(pb.UnloadModelRequest, body, request)
        await self._models.unload(message.model, message.version or None)
        return pb.UnloadModelResponse().SerializeToString()

    async def roll_back_model(self, body: bytes, request: InFlightRequest) -> bytes:
        """Answers a serialised RollbackModelRequest once an older version is the default."""
        message = self._change(pb.RollbackModelRequest, body, request)
        await self._models.roll_back(message.model)
        return pb.RollbackModelResponse(versions=await self._versions(message.model)).SerializeToString()

    def _change(self, kind: Any, body: bytes, request: InFlightRequest) -> Any:
        """Parses a request that changes what is served."""
        if self._config.model_control == "none":
            raise NotAllowed("clients may not load or unload models: start the server with --model-control explicit")
        message = parse_small(kind, body)
        request.model = message.model
        if not message.model:
            raise InvalidRequest("model is empty: name the model")
        return message

    async def _versions(self, name: str | None) -> list[pb.ModelVersion]:
        entries = await self._disk.run(self._models.index, name)
        return [_version_message(entry) for entry in entries]


def _version_message(entry: IndexEntry) -> pb.ModelVersion:
    return pb.ModelVersion(
        model=entry.name,
        version=entry.version,
        state=f"VERSION_STATE_{entry.state}",
        reason=entry.reason,
        labels=entry.labels,
        is_default=entry.is_default,
        is_chosen=entry.is_chosen,
    )
