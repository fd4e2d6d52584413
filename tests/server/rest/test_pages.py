"""Tests for server.rest.pages: they load nothing from elsewhere, and show names as text."""

from __future__ import annotations

import re

from ganserve.v1 import generator_pb2 as pb
from server.rest.app import OPERATIONS
from server.rest.openapi import openapi
from server.rest.pages import docs_page, index_page

HOSTILE = '"><script>alert(1)</script>&'


def test_names_are_text() -> None:
    for task in (pb.TASK_GENERATE, pb.TASK_TRANSLATE):
        model = pb.Model(name=HOSTILE, version=1, kind=HOSTILE, task=task, is_default=True)
        page = index_page([model]).decode()
        assert "<script" not in page
        assert "&lt;script&gt;" in page


def test_only_default_versions_are_shown() -> None:
    models = [pb.Model(name="m", version=version, is_default=version == 2) for version in (1, 2)]
    page = index_page(models).decode()
    assert "version 2" in page
    assert "version 1" not in page


def test_the_page_of_operations_shows_all_and_loads_nothing() -> None:
    page = docs_page(openapi(OPERATIONS, "1")).decode()
    assert not re.findall(r"<script|<link|<img|@import|url\(|https?://", page)
    for operation in OPERATIONS:
        assert f"{operation.method} " in page
        assert f"<code>{operation.path}</code>" in page
        assert all(parameter.name in page for parameter in operation.parameters)
