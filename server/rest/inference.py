"""The REST form of version 2 of the Open Inference Protocol, and of Triton's extensions: a table of operations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from google.protobuf.message import Message
from tritonclient.grpc import service_pb2 as pb

from server.errors import InvalidRequest
from server.open_inference.service import SERVICE
from server.rest.inference_json import SCHEMA, decode, read_inference, write_inference
from server.rest.operation import Operation, Write
from server.rest.parameter import Parameter
from server.rest.plain import plain
from server.rest.reply import BYTES, JSON, Reply, json_reply
from server.rest.sent import Sent

_MODEL: Final = Parameter("model", "Name of the model.")
_VERSION: Final = Parameter("version", "Number of the version, or a label.")
_BINARY_EXTENSION: Final = "binary_tensor_data"
_Body = dict[str, Any]


def _get(path: str, method: str, summary: str, read: Callable[[Sent], tuple[Message, Write]]) -> list[Operation]:
    """Returns an operation, and the same for one version if it is about a model."""
    rpc = f"/{SERVICE}/{method}"
    if "{model}" not in path:
        return [Operation("GET", path, rpc, f"{summary}.", read)]
    versioned = path.replace("{model}", "{model}/versions/{version}")
    return [
        Operation("GET", path, rpc, f"{summary}.", read, [_MODEL]),
        Operation("GET", versioned, rpc, f"{summary}, of one version.", read, [_MODEL, _VERSION]),
    ]


def _version(sent: Sent) -> str:
    return str(sent.values.get("version", ""))


def _named(kind: type[Any], write: Callable[[Sent], Write]) -> Callable[[Sent], tuple[Message, Write]]:
    """Returns what reads a request with a name and a version."""
    return lambda sent: (kind(name=str(sent.values.get("model", "")), version=_version(sent)), write(sent))


def _plainly(kind: type[Any]) -> Callable[[Sent], Write]:
    return lambda _: lambda answer: json_reply(plain(kind.FromString(answer)))


def _write_server(answer: bytes) -> Reply:
    values = plain(pb.ServerMetadataResponse.FromString(answer))
    return json_reply({**values, "extensions": sorted([*values["extensions"], _BINARY_EXTENSION])})


def _write_ready(sent: Sent, answer: bytes) -> Reply:
    ready = pb.ModelReadyResponse.FromString(answer).ready
    status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
    return json_reply({"name": sent.text("model"), "ready": ready}, status)


def _write_config(answer: bytes) -> Reply:
    return json_reply(plain(pb.ModelConfigResponse.FromString(answer).config))


def _infer(sent: Sent) -> tuple[Message, Write]:
    message, binary = read_inference(sent)
    return message, partial(write_inference, binary=binary)


def _index(sent: Sent) -> tuple[Message, Write]:
    ready = _object(sent).pop("ready", False)
    if not isinstance(ready, bool):
        raise InvalidRequest("ready is not true or false: send true for only the models that are served")
    return pb.RepositoryIndexRequest(ready=ready), _write_index


def _write_index(answer: bytes) -> Reply:
    return json_reply(plain(pb.RepositoryIndexResponse.FromString(answer))["models"])


def _changed(kind: type[Any]) -> Callable[[Sent], tuple[Message, Write]]:
    def read(sent: Sent) -> tuple[Message, Write]:
        message = kind(model_name=sent.text("model"))
        parameters = _object(sent).get("parameters", {})
        if not isinstance(parameters, dict):
            raise InvalidRequest("parameters is not an object: leave it out")
        for name, value in parameters.items():
            if isinstance(value, bool):
                message.parameters[name].bool_param = value
            else:  # refused by its name
                message.parameters[name].string_param = ""
        return message, lambda _: json_reply({})

    return read


def _object(sent: Sent) -> _Body:
    """Returns the body as an object; an empty one stands for an empty object."""
    body: _Body = decode(sent.body, _Body) if sent.body else {}
    return body


_OPTIONAL_OBJECT: Final = {JSON: {"type": "object"}}
_VERSIONED: Final = "/v2/models/{model}/versions/{version}"


def operations() -> list[Operation]:
    """Returns the table."""
    statistics = _named(pb.ModelStatisticsRequest, _plainly(pb.ModelStatisticsResponse))
    infer = f"/{SERVICE}/ModelInfer"
    bodies = {JSON: SCHEMA, BYTES: {"type": "string", "format": "binary"}}
    return [
        *_get(
            "/v2",
            "ServerMetadata",
            "Name, version and extensions",
            lambda _: (pb.ServerMetadataRequest(), _write_server),
        ),
        *_get("/v2/models/stats", "ModelStatistics", "Counts and times of all models", statistics),
        *_get(
            "/v2/models/{model}",
            "ModelMetadata",
            "Names, types and shapes of its tensors",
            _named(pb.ModelMetadataRequest, _plainly(pb.ModelMetadataResponse)),
        ),
        *_get(
            "/v2/models/{model}/ready",
            "ModelReady",
            "Whether it can be used; status 503 if not",
            _named(pb.ModelReadyRequest, lambda sent: partial(_write_ready, sent)),
        ),
        *_get(
            "/v2/models/{model}/config",
            "ModelConfig",
            "Its configuration, as in Triton",
            _named(pb.ModelConfigRequest, lambda _: _write_config),
        ),
        *_get("/v2/models/{model}/stats", "ModelStatistics", "Counts and times", statistics),
        Operation(
            "POST", "/v2/models/{model}/infer", infer, "Images from tensors.", _infer, [_MODEL], bodies, (JSON, BYTES)
        ),
        Operation(
            "POST",
            f"{_VERSIONED}/infer",
            infer,
            "Images from tensors, by one version.",
            _infer,
            [_MODEL, _VERSION],
            bodies,
            (JSON, BYTES),
        ),
        Operation(
            "POST",
            "/v2/repository/index",
            f"/{SERVICE}/RepositoryIndex",
            "Every version in the repository, and whether it is served.",
            _index,
            takes=_OPTIONAL_OBJECT,
        ),
        Operation(
            "POST",
            "/v2/repository/models/{model}/load",
            f"/{SERVICE}/RepositoryModelLoad",
            "Serves the versions of the model's policy.",
            _changed(pb.RepositoryModelLoadRequest),
            [_MODEL],
            _OPTIONAL_OBJECT,
        ),
        Operation(
            "POST",
            "/v2/repository/models/{model}/unload",
            f"/{SERVICE}/RepositoryModelUnload",
            "Stops serving a model.",
            _changed(pb.RepositoryModelUnloadRequest),
            [_MODEL],
            _OPTIONAL_OBJECT,
        ),
    ]
