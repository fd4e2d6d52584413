from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ganserve.bundle import CARD_FILE, ONNX_FILE, BundleError, list_versions
from server.config import ServerConfig
from server.engines.loading import load_engine
from server.errors import StartupError
from server.gate import Gate
from server.models.catalog import Catalog
from server.models.lifecycle import Models
from server.models.repository import load_version
from tests.server.tiny_bundles import publish_tiny_bundle, publish_tiny_translator


def served(config: ServerConfig) -> list[tuple[str, int]]:
    """The name and version of every model that a server with this config starts with."""

    async def load() -> list[tuple[str, int]]:
        catalog = Catalog()
        models = Models(catalog, config, Gate())
        try:
            await models.load_all()
            return [(model.card.name, model.card.version) for model in catalog.versions()]
        finally:
            await models.close()

    return asyncio.run(load())


def spoil_card(folder: Path) -> None:
    (folder / CARD_FILE).write_text("{")


def remove_card(folder: Path) -> None:
    (folder / CARD_FILE).unlink()


def spoil_graph(folder: Path) -> None:
    (folder / ONNX_FILE).write_bytes(b"junk")


def remove_graph(folder: Path) -> None:
    (folder / ONNX_FILE).unlink()


def claim_another_version(folder: Path) -> None:
    card = folder / CARD_FILE
    card.write_text(card.read_text().replace('"version": 2', '"version": 7'))


def claim_huge_images(folder: Path) -> None:
    card = folder / CARD_FILE
    card.write_text(card.read_text().replace('"height": 4', '"height": 1000000').replace('"width": 6', '"width": 1000'))


SPOILERS = [spoil_card, remove_card, spoil_graph, remove_graph, claim_another_version, claim_huge_images]


def test_the_newest_version_of_every_model_is_loaded(config: ServerConfig) -> None:
    publish_tiny_bundle(config.models, "wgan", 2)
    publish_tiny_bundle(config.models, "wgan", 10)
    assert served(config) == [("tiny", 1), ("wgan", 10)]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_a_broken_newest_version_falls_back_to_the_previous_one(
    config: ServerConfig, spoil: Any, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(publish_tiny_bundle(config.models, version=2))
    assert served(config) == [("tiny", 1)]
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.getMessage().startswith("tiny:2 is broken and not served: ")
    assert "\n" not in warning.getMessage()


def test_a_model_without_a_working_version_is_skipped(config: ServerConfig, caplog: pytest.LogCaptureFixture) -> None:
    spoil_graph(publish_tiny_bundle(config.models, "broken"))
    assert served(config) == [("tiny", 1)]
    assert "broken: no version works, so the model is not served" in caplog.messages


def test_a_repository_without_a_working_model_cannot_be_served(config: ServerConfig) -> None:
    spoil_graph(config.models / "tiny" / "1")
    with pytest.raises(StartupError, match=r"--models: no model in .* works"):
        served(config)


@pytest.mark.parametrize("spoil", SPOILERS)
def test_a_version_that_does_not_load_says_why(config: ServerConfig, spoil: Any) -> None:
    folder = publish_tiny_bundle(config.models, version=2)
    spoil(folder)
    with pytest.raises(BundleError, match=f"{folder}.*: "):
        load_version(config, "tiny", 2)


def test_an_empty_repository_cannot_be_served(config: ServerConfig, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(StartupError, match=r"--models: .* holds no model: export a run into it"):
        served(replace(config, models=tmp_path / "empty"))


def test_a_missing_repository_cannot_be_served(config: ServerConfig, tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="--models: no model repository at"):
        served(replace(config, models=tmp_path / "nowhere"))


def test_each_model_gets_one_line_in_the_log(config: ServerConfig, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        served(config)
    (line,) = caplog.messages
    assert line.startswith("tiny:1: onnx on cpu, ")
    assert "loaded and warmed up in" in line


def test_a_translator_whose_images_exceed_the_limit_is_skipped_and_the_flag_is_named(
    config: ServerConfig, caplog: pytest.LogCaptureFixture
) -> None:
    publish_tiny_translator(config.models)
    assert served(replace(config, max_image_pixels=24)) == [("tiny", 1), ("tiny-a2b", 1)]
    assert served(replace(config, max_image_pixels=23)) == [("tiny", 1)]
    assert any(
        "takes images of 4x6 (height x width), and --max-image-pixels is 23: raise it to 24" in line
        for line in caplog.messages
    )


def scarce(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Makes the runtime run out of memory for some versions."""

    def load(folder: Path, *arguments: Any, **settings: Any) -> Any:
        if folder in folders:
            raise RuntimeError("CUDA out of memory\nat layer 1")
        return load_engine(folder, *arguments, **settings)

    monkeypatch.setattr("server.engines.loading.load_engine", load)


def test_a_version_that_runs_out_of_memory_falls_back_to_the_previous_one(
    config: ServerConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    newest, large = publish_tiny_bundle(config.models, version=2), publish_tiny_bundle(config.models, "large")
    scarce(monkeypatch, newest, large)
    assert served(config) == [("tiny", 1)]
    assert caplog.messages[0].startswith(
        "large:1 is broken and not served: loading failed (RuntimeError: CUDA out of memory);"
    )
    assert caplog.messages[2].startswith(
        "tiny:2 is broken and not served: loading failed (RuntimeError: CUDA out of memory);"
    )
    assert not any("\n" in message for message in caplog.messages)


def test_out_of_memory_for_every_model_is_a_one_line_error(
    config: ServerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    scarce(monkeypatch, config.models / "tiny" / "1")
    with pytest.raises(StartupError, match=r"--models: no model in .* works"):
        served(config)


def test_a_model_whose_folder_cannot_be_read_is_skipped(
    config: ServerConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def list_some(repository: Path, name: str) -> list[int]:
        if name == "locked":
            raise PermissionError(13, "Permission denied")
        return list_versions(repository, name)

    publish_tiny_bundle(config.models, "locked")
    monkeypatch.setattr("server.models.fingerprints.list_versions", list_some)
    assert served(config) == [("tiny", 1)]
    assert "locked: the model is not served: the folder of 'locked' cannot be read" in caplog.text


def test_cuda_graphs_and_model_control_exclude_each_other(config: ServerConfig) -> None:
    both = replace(config, cuda_graphs=True, model_control="explicit")
    with pytest.raises(StartupError, match=r"^--cuda-graphs: .*leave out --cuda-graphs or --model-control$"):
        served(both)
    assert served(replace(both, cuda_graphs=False)) == served(replace(both, model_control="none")) == [("tiny", 1)]
