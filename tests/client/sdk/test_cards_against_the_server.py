"""`ganclient info` and `ganclient health` against ganserve's own server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from client import GanClient, UnknownModel
from tests.client.test_main import run
from tests.end_to_end.conftest import running_server
from tests.server.tiny_bundles import publish_tiny_bundle, publish_tiny_translator


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("models")
    publish_tiny_bundle(models)
    publish_tiny_translator(models)
    return models


@pytest.fixture(scope="module")
def address(models: Path) -> Iterator[str]:
    with running_server(models) as server:
        yield server.address


@pytest.mark.parametrize("model", ["tiny", "tiny-a2b"])
def test_the_sdk_gives_the_published_card(models: Path, address: str, model: str) -> None:
    published = json.loads((models / model / "1" / "card.json").read_bytes())
    with GanClient(address) as client:
        assert client.card(model) == published
        assert client.card(model, 1) == published
        with pytest.raises(UnknownModel, match="version 2 of"):
            client.card(model, 2)


def test_info_tells_of_every_model_and_its_files(models: Path, address: str) -> None:
    for model in ("tiny", "tiny-a2b"):
        result = run("info", model, address=address)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.startswith(f"{model}, version 1\n")
        told = json.loads(run("info", model, "--json", address=address).stdout)
        sizes = {path.name: path.stat().st_size for path in (models / model / "1").glob("model.*")}
        assert told["file_bytes"] == sizes
        for name in sizes:
            assert f"  {name} " in result.stdout
            assert told["card"]["files"][name] in result.stdout


def test_health_tells_of_the_server_and_its_models(address: str) -> None:
    assert run("health", address=address).exit_code == 0
    assert run("health", "--model", "tiny", address=address).exit_code == 0
    result = run("health", "--model", "nope", address=address)
    assert (result.exit_code, result.stdout) == (
        1,
        "not serving: no model 'nope' is served: use one of tiny, tiny-a2b\n",
    )
