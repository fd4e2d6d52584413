"""The pages of a first hour (own pictures, comparing models, an API) run, in the order of a reader."""

from __future__ import annotations

import io
import re
import shlex
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from client.__main__ import cli as ganclient
from scripts.drawings import draw_messy_folder
from scripts.first_hour import MOST_SWD
from server.__main__ import main as server
from tests.docs import serving_page
from tests.docs.commands import commands, run
from tests.end_to_end.conftest import RunningServer, running_server

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {name: (DOCS / name).read_text() for name in ("your-own-pictures.md", "compare-models.md", "behind-an-api.md")}
COMMANDS = [command for text in PAGES.values() for command in commands(text)]
SERVER = "python -m server"
EXPLORE = "ganclient explore"  # serves until Ctrl-C; scripts/first_hour.py starts it
BEFORE_SERVING = [command for command in COMMANDS if command.startswith("python -m") and command != SERVER]
SERVED = [command for command in COMMANDS if command.startswith("ganclient ") and not command.startswith(EXPLORE)]
ADDRESS, METRICS_URL = "127.0.0.1:50051", "http://127.0.0.1:9095"
TIMEOUT_S = 30


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a reader who has followed the pages up to the server, with tiny networks."""
    folder = tmp_path_factory.mktemp("first-hour")
    draw_messy_folder(folder / "my-pictures", 40)
    for command in BEFORE_SERVING:
        done = run(command, folder)
        assert done.exit_code == 0, f"{command}: {done.stderr}"
    return folder


@pytest.fixture(scope="module")
def running(workplace: Path) -> Iterator[RunningServer]:
    with running_server(workplace / "models", "--device", "cpu") as started:
        yield started


@pytest.mark.parametrize("command", SERVED)
def test_the_commands_for_a_server_run(command: str, running: RunningServer, workplace: Path) -> None:
    done = run(command, workplace, running.address)
    assert done.exit_code == 0, done.stderr
    words = shlex.split(command)
    if "--out" in words:
        assert (workplace / words[words.index("--out") + 1]).stat().st_size


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith(EXPLORE)])
def test_the_explorer_takes_the_flags_and_the_pictures(
    command: str, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    explore = ganclient.commands["explore"]
    assert explore.make_context("explore", shlex.split(command)[2:]).params["port"] == 7860


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("curl ")])
def test_the_http_port_answers_the_curl_commands(command: str, running: RunningServer) -> None:
    url = shlex.split(command)[-1]
    assert url.startswith(METRICS_URL)
    moved = url.replace(METRICS_URL, running.metrics_url.removesuffix("/metrics"))
    with urllib.request.urlopen(moved, timeout=TIMEOUT_S) as response:
        assert response.status == 200


def test_grpcurl_is_called_as_on_the_page_about_serving() -> None:
    (line,) = (command for command in COMMANDS if command.startswith("grpcurl "))
    assert line.replace("my-pictures-dcgan", "dcgan") in serving_page.COMMANDS


def python_of_the_api() -> tuple[str, str]:
    sdk, api = re.findall(r"```python\n(.*?)```", PAGES["behind-an-api.md"], re.DOTALL)
    return sdk, api


def test_the_client_of_the_page_makes_pictures(
    running: RunningServer, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    namespace: dict[str, Any] = {}
    sdk, _ = python_of_the_api()
    exec(compile(sdk.replace(ADDRESS, running.address), "behind-an-api.md", "exec"), namespace)
    assert namespace["images"].shape == (16, 32, 32, 3)
    with Image.open(io.BytesIO(namespace["png"])) as picture:
        np.testing.assert_array_equal(np.asarray(picture), namespace["images"][0])


@pytest.fixture
def api(running: RunningServer) -> Iterator[Any]:
    """A client of the page's HTTP API."""
    testclient = pytest.importorskip("fastapi.testclient", reason="NO FASTAPI: its example was not tried")
    namespace: dict[str, Any] = {}
    _, code = python_of_the_api()
    exec(compile(code.replace(ADDRESS, running.address), "api.py", "exec"), namespace)
    with testclient.TestClient(namespace["app"]) as client:
        yield client


def test_the_http_api_answers_with_the_picture_of_the_seed(api: Any, running: RunningServer) -> None:
    answer = api.get("/pictures/7.png")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.size == (32, 32)
    assert api.get("/pictures/7.png").content == answer.content
    assert api.get("/pictures/8.png").content != answer.content


@pytest.mark.parametrize("seed", ["-1", str(1 << 70), "seven"])
def test_the_http_api_refuses_what_is_no_seed(seed: str, api: Any) -> None:
    assert api.get(f"/pictures/{seed}.png").status_code == 422


def test_the_flags_of_the_container_are_those_of_the_server() -> None:
    (block,) = re.findall(r"```text\n(docker .*?)```", PAGES["behind-an-api.md"], re.DOTALL)
    (flags,) = re.findall(r"ganserve \\\n\s+(--.*)\n", block)
    values = server.make_context("server", shlex.split(flags)).params
    assert (values["address"].port, values["metrics_address"].port) == (50051, 9095)


def test_the_pages_name_the_bound_of_the_walk() -> None:
    assert f"SWD below {MOST_SWD[False]:.0f}" in PAGES["your-own-pictures.md"]


@pytest.mark.parametrize("name", PAGES)
def test_the_pages_lead_to_each_other(name: str) -> None:
    assert {other for other in PAGES if f"({other}" in PAGES[name]} == PAGES.keys() - {name}
