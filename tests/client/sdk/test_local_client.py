"""`LocalClient`: the calls of `GanClient` on models in this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from client import GanClient, InvalidRequest, LocalClient, UnknownModel
from ganserve.latents import latents_from_seed
from tests.server.tiny_bundles import publish_tiny_bundle, publish_tiny_translator, tiny_pixels, tiny_translation

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("models")
    publish_tiny_bundle(models)
    publish_tiny_translator(models)
    return models


@pytest.fixture(scope="module")
def local(models: Path) -> Iterator[LocalClient]:
    with LocalClient(models, device="cpu", cores=1) as opened:
        yield opened


def expected(seed: int, count: int) -> np.ndarray:
    return tiny_pixels(latents_from_seed(seed, count, 4, "normal"))


def test_a_large_count_is_computed_in_several_requests_and_in_order(local: LocalClient) -> None:
    np.testing.assert_array_equal(local.generate("tiny", seed=7, count=600), expected(7, 600))
    chunks = list(local.generate_chunks("tiny", seed=7, count=300, first_row=300))
    assert len(chunks) == 2
    np.testing.assert_array_equal(np.concatenate([chunk.images for chunk in chunks]), expected(7, 600)[300:])


def test_every_call_is_answered(local: LocalClient) -> None:
    assert sorted(model.name for model in local.models()) == ["tiny", "tiny-a2b"]
    np.testing.assert_array_equal(local.translate("tiny-a2b", IMAGES), tiny_translation(IMAGES))
    assert len(local.generate_encoded("tiny", seed=1, count=2, format="jpeg")) == 2
    assert local.interpolate("tiny", 1, 2, steps=5).shape == (5, 4, 6, 3)
    assert local.traverse("tiny", [[0.0] * 4], dimensions=[1], values=[-1, 1]).shape == (2, 1, 4, 6, 3)
    assert local.grid("tiny", seed=7, count=4).size == (18, 14)  # with lines between the images
    assert local.card("tiny")["name"] == "tiny"
    assert local.describe("tiny").ready
    assert local.healthy("tiny")


def test_errors_are_those_of_a_client_of_a_server(local: LocalClient) -> None:
    with pytest.raises(UnknownModel, match="no model 'nope' is served; served models: tiny, tiny-a2b"):
        local.generate("nope", seed=0)
    with pytest.raises(InvalidRequest, match=r"use GanClient\.generate"):
        local.translate("tiny", IMAGES)
    with pytest.raises(InvalidRequest, match=r"images\[1\]"):
        local.translate_encoded("tiny-a2b", [local.generate_encoded("tiny", seed=1)[0], b"no picture"])


def test_it_can_be_shared_by_threads(local: LocalClient) -> None:
    made: dict[int, np.ndarray] = {}
    threads = [
        threading.Thread(target=lambda seed=seed: made.update({seed: local.generate("tiny", seed=seed, count=300)}))
        for seed in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made.keys() == set(range(4))
    for seed, images in made.items():
        np.testing.assert_array_equal(images, expected(seed, 300))


async def test_it_works_where_an_event_loop_runs_as_in_a_notebook(local: LocalClient) -> None:
    assert asyncio.get_running_loop().is_running()
    np.testing.assert_array_equal(local.generate("tiny", seed=3, count=2), expected(3, 2))


def test_it_is_a_client_so_programs_take_either(local: LocalClient) -> None:
    assert isinstance(local, GanClient)


def test_new_versions_are_loaded_chosen_and_unloaded(tmp_path: Path) -> None:
    publish_tiny_bundle(tmp_path)
    with LocalClient(tmp_path, device="cpu", cores=1) as local:
        publish_tiny_bundle(tmp_path, version=2, seed=5)
        assert [found.state for found in local.versions("tiny")] == ["ready", "unavailable"]
        local.load("tiny")
        assert local.info("tiny").version == 2
        local.rollback("tiny")
        np.testing.assert_array_equal(local.generate("tiny", seed=3, count=2), expected(3, 2))
        local.unload("tiny")
        with pytest.raises(UnknownModel):
            local.generate("tiny", seed=3)


def test_only_loads_what_it_names(models: Path) -> None:
    with LocalClient(models, device="cpu", cores=1, only={"tiny": None}) as local:
        assert [model.name for model in local.models()] == ["tiny"]


def test_a_call_raises_once_its_client_is_closed(models: Path) -> None:
    client = LocalClient(models, device="cpu", cores=1)
    chunks = client.generate_chunks("tiny", seed=0, count=100_000)
    next(chunks)
    client.close()
    with pytest.raises(InvalidRequest, match="closed"):
        list(chunks)
