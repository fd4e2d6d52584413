"""The OpenAPI document of the HTTP API, from the same tables as its routes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from server.rest.operation import Operation
from server.rest.reply import JSON, PNG, STATUS_OF

VERSION: Final = "3.1.0"
DESCRIPTION: Final = (
    "Pictures under /v1, the Open Inference Protocol under /v2. Send a token, if the server needs one, as"
    " Authorization: Bearer TOKEN, and the time that you wait as X-Request-Timeout-Ms."
)
_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "The field, the reason and the remedy."}},
}
_OF_HTTP: Final = (
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
)
_STATUSES: Final = sorted({*STATUS_OF.values(), *_OF_HTTP})
_HEALTH: Final = {
    "/healthz": "Whether the process is alive.",
    "/readyz": "Whether the server wants requests.",
    "/v2/health/live": "Whether the process is alive.",
    "/v2/health/ready": "Whether the server wants requests.",
}


def openapi(operations: Sequence[Operation], version: str) -> dict[str, Any]:
    """Returns the document.

    Args:
        operations: all of them.
        version: of ganserve.
    """
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    for path, summary in _HEALTH.items():
        paths[path] = {"get": {"summary": summary, "responses": _health_responses(), "security": []}}
    return {
        "openapi": VERSION,
        "info": {"title": "ganserve", "version": version, "description": DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": {"Error": _ERROR},
            "responses": {
                str(status.value): {
                    "description": status.phrase,
                    "content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
                }
                for status in _STATUSES
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _described(operation: Operation) -> dict[str, Any]:
    contents = {kind: {"schema": _schema(kind)} if kind == PNG else {} for kind in operation.gives}
    responses: dict[str, Any] = {"200": {"description": "OK", "content": contents}}
    for status in _STATUSES:
        responses[str(status.value)] = {"$ref": f"#/components/responses/{status.value}"}
    if operation.path.endswith("/ready"):
        responses["503"] = {"description": "It cannot be used now.", "content": {JSON: {"schema": {"type": "object"}}}}
    described: dict[str, Any] = {
        "summary": operation.summary,
        "parameters": [
            {
                "name": parameter.name,
                "in": "query" if parameter.default is not None else "path",
                "required": parameter.default is None,
                "description": parameter.text,
                "schema": parameter.schema(),
            }
            for parameter in operation.parameters
        ],
        "responses": responses,
    }
    if operation.takes:
        described["requestBody"] = {
            "required": JSON not in operation.takes or len(operation.takes) > 1,
            "content": {kind: {"schema": schema} for kind, schema in operation.takes.items()},
        }
    return described


def _schema(kind: str) -> Mapping[str, Any]:
    return {"type": "string", "format": "binary", "contentMediaType": kind}


def _health_responses() -> dict[str, Any]:
    return {"200": {"description": "Yes."}, "503": {"description": "No."}}
