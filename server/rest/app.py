"""The ASGI application of the HTTP API: its routes, and what it answers without the core."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ganserve.foreign import version_of
from server.fronts.base import Methods, Unary
from server.gate import Gate
from server.http.app import health_answers
from server.rest import inference, pictures
from server.rest.endpoint import Endpoint
from server.rest.openapi import openapi
from server.rest.operation import Operation
from server.rest.pages import CONTENT_SECURITY_POLICY, docs_page
from server.rest.reply import HTML, JSON
from server.rpc.byte_budget import ByteBudget

OPERATIONS: Final[tuple[Operation, ...]] = (*pictures.operations(), *inference.operations())
"""Everything that the core answers over HTTP."""


def make_app(methods: Methods, gate: Gate, input_budget: ByteBudget, max_body_bytes: int) -> Starlette:
    """Returns the application.

    Args:
        methods: of the core, by their path.
        gate: tells whether the server is ready.
        input_budget: bounds the bytes of all bodies that are being read.
        max_body_bytes: limit for one body.
    """
    document = openapi(OPERATIONS, version_of("ganserve"))
    routes = [
        _fixed("/openapi.json", json.dumps(document).encode(), JSON),
        _fixed("/docs", docs_page(document), HTML),
        *[_health(path, gate) for path in health_answers(gate)],
    ]
    for operation in OPERATIONS:
        method = methods[operation.rpc]
        assert isinstance(method, Unary)
        endpoint: Any = Endpoint(operation, method, input_budget, max_body_bytes, gate)
        routes.append(Route(operation.path, endpoint, methods=[operation.method]))
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refuse})
    app.router.redirect_slashes = False
    return app


def _fixed(path: str, body: bytes, media_type: str) -> Route:
    async def answer(_: Request) -> Response:
        return Response(body, media_type=media_type, headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})

    return Route(path, answer)


def _health(path: str, gate: Gate) -> Route:
    async def answer(_: Request) -> Response:
        made = health_answers(gate)[path]()
        return Response(made.body, made.status, dict(made.headers))

    return Route(path, answer)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        message = "there is no such path: /docs lists all"
    else:
        allowed = (error.headers or {}).get("Allow", "")
        message = f"{request.method} is not answered here: use {allowed}; /docs lists all operations"
    return Response(json.dumps({"error": message}), error.status_code, dict(error.headers or {}), JSON)
