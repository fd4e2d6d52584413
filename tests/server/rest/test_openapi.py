"""Tests for server.rest.openapi: the document tells what the server does."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from server.app import Server
from server.rest.app import OPERATIONS
from server.rest.openapi import openapi
from server.rest.operation import Operation
from tests.server.rest.conftest import ask_server

DOCUMENT = openapi(OPERATIONS, "1")


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: f"{operation.method} {operation.path}")
def test_every_operation_is_described(operation: Operation) -> None:
    described = DOCUMENT["paths"][operation.path][operation.method.lower()]
    placed = {parameter["name"]: parameter["in"] for parameter in described["parameters"]}
    assert {name for name, place in placed.items() if place == "path"} == {
        part[1:-1] for part in operation.path.split("/") if part.startswith("{")
    }
    assert set(described["responses"]) >= {"200", "400", "401", "403", "404", "413", "429", "500", "503", "504"}
    for reference in described["responses"].values():
        if "$ref" in reference:
            assert reference["$ref"].rpartition("/")[2] in DOCUMENT["components"]["responses"]


def test_schemas_are_valid() -> None:
    def check(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(schema := value.get("schema"), dict):
                jsonschema.Draft202012Validator.check_schema(schema)
            for item in value.values():
                check(item)
        elif isinstance(value, list):
            for item in value:
                check(item)

    check(DOCUMENT)


async def test_every_get_without_parameters_answers_as_described(api: Server) -> None:
    document = json.loads((await ask_server(api, "/openapi.json")).body)
    for path, methods in document["paths"].items():
        if "get" in methods and "{" not in path:
            reply = await ask_server(api, path)
            assert reply.status == 200, path
            contents = methods["get"]["responses"]["200"].get("content")
            assert contents is None or reply.headers["content-type"] in contents, path
