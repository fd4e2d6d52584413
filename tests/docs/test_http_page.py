"""docs/http.md: its commands run, and its table agrees with the code."""

from __future__ import annotations

import asyncio
import io
import re
import shlex
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from server.app import Server, start
from server.config import Address, ServerConfig
from server.open_inference.validation import MAX_TYPED_VALUES
from server.rest import endpoint, host, inference_json, reply
from server.rest.openapi import openapi
from tests.docs.commands import commands
from tests.server.tiny_bundles import publish_tiny_bundle, publish_tiny_translator

PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text()
ADDRESS = "127.0.0.1:8080"
CURL = [command for command in commands(PAGE) if command.startswith("curl ")]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    models, anywhere = tmp_path / "models", Address("127.0.0.1", 0)
    publish_tiny_bundle(models, name="dcgan", latent_dim=100, shape=(1, 32, 32))
    publish_tiny_translator(models, name="photo2painting", shape=(3, 8, 8))
    started = await start(
        ServerConfig(models, anywhere, http_address=anywhere, metrics_address=None, device="cpu", model_control="poll")
    )
    yield started
    await started.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_the_commands_run(server: Server, tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (20, 10), "red").save(file, "JPEG")
    (tmp_path / "photo.jpg").write_bytes(file.getvalue())
    assert len(CURL) > 5
    for command in CURL:
        assert ADDRESS in command
        words = shlex.split(command.replace(ADDRESS, str(server.http_address)))
        done: Any = await asyncio.to_thread(subprocess.run, words, cwd=tmp_path, capture_output=True, timeout=60)
        assert done.returncode == 0, (command, done.stderr)
    for name, size in (("image.png", (32, 32)), ("grid.png", (266, 266)), ("painting.png", (8, 8))):
        with Image.open(tmp_path / name) as image:
            assert image.size == size


async def test_the_python_example_runs(server: Server) -> None:
    pytest.importorskip("tritonclient.http", exc_type=ImportError)
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    await asyncio.to_thread(exec, code.replace(ADDRESS, str(server.http_address)), names)
    assert names["images"].shape == (16, 32, 32, 1)
    names["client"].close()


def test_the_page_lists_exactly_the_statuses_of_the_document() -> None:
    table = PAGE.partition("<!-- table: http statuses -->")[2]
    rows = re.findall(r"^\| (\d+) \| (.*?) \|", table, re.MULTILINE)
    assert [status for status, _ in rows] == list(openapi([], "1")["components"]["responses"])
    for status, names in rows:
        known = {code.name for code, made in reply.STATUS_OF.items() if made == int(status)}
        assert set(re.findall(r"`(\w+)`", names)) == known


def test_the_page_has_the_limits_of_the_code() -> None:
    for text in (
        f"{MAX_TYPED_VALUES:,} values",
        f"{inference_json.MAX_JSON_BYTES >> 20} MiB",
        f"stopped coming for {endpoint.BODY_STALL_S:g} s",
        f"{endpoint.DEFAULT_TIMEOUT_S:g} s if you do not say",
        f"must arrive within {host.REQUEST_TIMEOUT_S:g} s",
        f"its response for {reply.STALL_S:g} s",
        f"for {host.IDLE_TIMEOUT_S:g} s between requests",
    ):
        assert text in PAGE, text
