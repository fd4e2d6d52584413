"""docs/client.md against a real server: its commands and its Python."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from client import errors
from client.__main__ import cli
from tests.end_to_end.conftest import running_server
from tests.server.tiny_bundles import publish_tiny_bundle, publish_tiny_translator

TEXT = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
ADDRESS = "127.0.0.1:50051"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


COMMANDS = [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("client-page")
    publish_tiny_bundle(folder / "models", name="dcgan", latent_dim=100, shape=(1, 32, 32))
    publish_tiny_translator(folder / "models", name="cyclegan-a2b")
    (folder / "pictures").mkdir()
    for index in range(3):
        Image.new("RGB", (40, 40), (index, 90, 90)).save(folder / "pictures" / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def address(workplace: Path) -> Iterator[str]:
    with running_server(workplace / "models", "--device", "cpu") as server:
        yield server.address


def test_the_commands_run_in_order_and_write_what_they_name(
    workplace: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    assert len(COMMANDS) > 10
    for command in COMMANDS:
        words = shlex.split(command.replace("--seconds 1 ", "--seconds 0.1 "))
        assert words[0] == "ganclient"
        done = CliRunner().invoke(cli, words[1:], env={"GANSERVE_ADDRESS": address})
        assert done.exit_code == 0, f"{command}: {done.output}"
        for flag in {"--out", "--grid", "--save-latents"} & set(words):
            assert (workplace / words[words.index(flag) + 1]).exists(), command
    with Image.open(workplace / "sheet.png") as sheet, Image.open(workplace / "again.png") as again:
        assert sheet.height == again.height  # the same images; the sheet also has labels
        pixels = np.asarray(again)
        assert (np.asarray(sheet)[:, -pixels.shape[1] :] == pixels).mean() > 0.99


@pytest.mark.parametrize("block", blocks("python"))
def test_the_python_runs(block: str, address: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    namespace: dict[str, Any] = {}
    assert ADDRESS in block or "LocalClient" in block
    exec(compile(block.replace(ADDRESS, address), "client.md", "exec"), namespace)
    if "batches" in namespace:
        assert [batch.shape for batch in namespace["batches"]] == [(4, 32, 32, 1)] * 8
        return
    assert namespace["images"].shape == (16, 32, 32, 1)
    if "LocalClient" in namespace:
        assert namespace["grid"].size[0] > 8 * 32
    elif "found" not in namespace:  # the example of all calls
        assert namespace["between"].shape == (10, 32, 32, 1)
        assert namespace["sheet"].shape == (6, 1, 32, 32, 1)
        assert namespace["trained_on"] == "noise"


def test_every_error_of_the_client_is_explained() -> None:
    table = TEXT.partition("| error | meaning |")[2].partition("\n\n")[0]
    of_calls = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type)
        and issubclass(value, errors.GanClientError)
        and value not in (errors.GanClientError, errors.UnwritableOutput)  # the last one is for output files
    }
    assert set(re.findall(r"`(\w+)`", table)) == of_calls
