"""Lists the versions of the models of a server, and decides which of them it serves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

from client.errors import invalid_response
from client.sdk.catalog import Catalog
from client.sdk.latents import whole_number
from client.sdk.messages import check_model
from client.sdk.steps import Steps, unary
from ganserve.v1 import model_control_pb2

VersionState = Literal["ready", "unavailable", "loading", "unknown"]

_STATES: Final[dict[int, VersionState]] = {
    model_control_pb2.VERSION_STATE_READY: "ready",
    model_control_pb2.VERSION_STATE_UNAVAILABLE: "unavailable",
    model_control_pb2.VERSION_STATE_LOADING: "loading",
}
_MAX_VERSION: Final = 2**63 - 1


@dataclass(frozen=True)
class VersionInfo:
    """One version in the server's model repository, or in service."""

    model: str
    version: int
    state: VersionState
    reason: str  # why it is not served, or could not be loaded again; empty if all is well
    labels: tuple[str, ...]
    is_default: bool  # whether requests that name no version get it
    is_chosen: bool  # whether a load or rollback made it the default


def versions(model: str | None) -> Steps[Any, list[VersionInfo]]:
    """Asks for the versions of a model, or of all models for None.

    Raises:
        UnknownModel: The repository has no such model.
        GanClientError: The server does not answer, or its response is invalid.
    """
    if model is not None:
        check_model(model, None)
    request = model_control_pb2.ListVersionsRequest(model=model or "")
    return _versions_from((yield from unary("ListVersions", request)).versions)


def load(catalog: Catalog, model: str, version: int | None, *, newest: bool) -> Steps[Any, list[VersionInfo]]:
    """Asks the server to load a model; returns its versions.

    Raises:
        InvalidRequest: An argument is invalid.
        UnknownModel: The repository has no such model or version.
        VersionNotLoaded: A version does not work.
        AccessDenied: The server does not let clients load models.
        GanClientError: The server does not answer, or its response is invalid.
    """
    request = model_control_pb2.LoadModelRequest(model=_checked(model, version))
    if version is not None:
        request.version = version
    elif newest:
        request.newest = True
    return (yield from _changed(catalog, "LoadModel", request))


def unload(catalog: Catalog, model: str, version: int | None) -> Steps[Any, None]:
    """Asks the server to stop serving a model, or one version of it.

    Raises:
        InvalidRequest: An argument is invalid.
        UnknownModel: The model or version is not served.
        AccessDenied: The server does not let clients unload models.
        GanClientError: The server does not answer.
    """
    catalog.forget()
    yield from unary(
        "UnloadModel", model_control_pb2.UnloadModelRequest(model=_checked(model, version), version=version or 0)
    )


def roll_back(catalog: Catalog, model: str) -> Steps[Any, list[VersionInfo]]:
    """Asks the server to go back to the previous version of a model; returns its versions.

    Raises:
        UnknownModel: The model is not served.
        VersionNotLoaded: No older version works.
        AccessDenied: The server does not let clients load models.
        GanClientError: The server does not answer, or its response is invalid.
    """
    request = model_control_pb2.RollbackModelRequest(model=_checked(model, None))
    return (yield from _changed(catalog, "RollbackModel", request))


def _checked(model: str, version: int | None) -> str:
    check_model(model, None)
    if version is not None:
        whole_number("version", version, 1, _MAX_VERSION)
    return model


def _changed(
    catalog: Catalog, method: Literal["LoadModel", "RollbackModel"], request: Any
) -> Steps[Any, list[VersionInfo]]:
    catalog.forget()  # even if it fails: it may fail for one version and change another
    return _versions_from((yield from unary(method, request)).versions)


def _versions_from(listed: Iterable[model_control_pb2.ModelVersion]) -> list[VersionInfo]:
    return [_version_from(version) for version in listed]


def _version_from(listed: model_control_pb2.ModelVersion) -> VersionInfo:
    texts = (listed.model, listed.reason, *listed.labels)
    if listed.version < 1 or not listed.model or not all(text.isprintable() for text in texts):
        raise invalid_response(f"it lists a version {listed.version} of {listed.model!r:.80} with invalid text")
    return VersionInfo(
        model=listed.model,
        version=listed.version,
        state=_STATES.get(listed.state, "unknown"),
        reason=listed.reason,
        labels=tuple(listed.labels),
        is_default=listed.is_default,
        is_chosen=listed.is_chosen,
    )
