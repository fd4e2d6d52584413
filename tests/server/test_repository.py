from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.bundle import CARD_FILE, ONNX_FILE
from server.config import ServerConfig
from server.errors import StartupError
from server.repository import load_repository
from tests.server.tiny_bundles import publish_tiny_bundle, publish_tiny_translator


def served(config: ServerConfig) -> list[tuple[str, int]]:
    return [(model.card.name, model.card.version) for model in load_repository(config)]


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
def test_a_broken_newest_version_gives_way_to_the_one_before(
    config: ServerConfig, spoil: Any, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(publish_tiny_bundle(config.models, version=2))
    assert served(config) == [("tiny", 1)]
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.getMessage().startswith("tiny:2 is broken and not served: ")
    assert "\n" not in warning.getMessage()


def test_a_model_without_a_version_that_works_is_left_out(
    config: ServerConfig, caplog: pytest.LogCaptureFixture
) -> None:
    spoil_graph(publish_tiny_bundle(config.models, "broken"))
    assert served(config) == [("tiny", 1)]
    assert "broken: no version works, so the model is not served" in caplog.messages


def test_a_repository_without_a_model_that_works_cannot_be_served(config: ServerConfig) -> None:
    spoil_graph(config.models / "tiny" / "1")
    with pytest.raises(StartupError, match=r"--models: no model in .* works"):
        served(config)


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
    assert "loaded and warm in" in line


def test_a_translator_whose_own_images_are_too_large_to_be_sent_is_left_out_and_the_flag_named(
    config: ServerConfig, caplog: pytest.LogCaptureFixture
) -> None:
    publish_tiny_translator(config.models)
    assert served(replace(config, max_image_pixels=24)) == [("tiny", 1), ("tiny-a2b", 1)]
    assert served(replace(config, max_image_pixels=23)) == [("tiny", 1)]
    assert any(
        "takes images of 4x6 (height x width), and --max-image-pixels is 23: raise it to 24" in line
        for line in caplog.messages
    )
