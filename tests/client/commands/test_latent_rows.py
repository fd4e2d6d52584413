from __future__ import annotations

import dataclasses
from pathlib import Path

import click
import numpy as np
import pytest

from client import GanClient
from client.commands.latent_rows import (
    check_one_source,
    check_picture_size,
    images_of,
    latents_of_file,
    latents_of_seed,
    served_generator,
)
from client.errors import InvalidRequest
from client.sdk.model_info import ModelInfo, models_from
from ganserve.latents import DISTRIBUTIONS, latents_from_seed
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import FakeServer, model, pixels_of

SERVED: ModelInfo = models_from(pb.ListModelsResponse(models=[model()]))[0]


def test_at_most_one_source_of_latents_may_be_given() -> None:
    check_one_source({"--seed": None, "--latents": "a.npy"})
    check_one_source({"--seed": 0, "--latents": None})
    with pytest.raises(click.UsageError, match=r"^--seed and --latents: give only one of them"):
        check_one_source({"--seed": 0, "--latents": "a.npy"})


def test_a_model_for_another_task_is_refused(server: FakeServer) -> None:
    with GanClient(server.address) as client:
        assert served_generator(client, "dcgan", None).version == 3
        with pytest.raises(InvalidRequest, match=r"'a2b' does not generate images from latents; .*translate"):
            served_generator(client, "a2b", None)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_latents_of_a_seed_are_those_of_the_shared_function(distribution: str) -> None:
    served = dataclasses.replace(SERVED, latent_distribution=distribution)
    np.testing.assert_array_equal(latents_of_seed(served, 7, 3), latents_from_seed(7, 3, 6, distribution))


def test_too_many_latents_are_refused_before_they_are_drawn() -> None:
    with pytest.raises(InvalidRequest, match="ask for fewer"):
        latents_of_seed(dataclasses.replace(SERVED, latent_dim=1 << 20), 0, 1000)


def test_the_first_latents_of_a_file_or_all_of_them(here: Path) -> None:
    values = np.arange(18, dtype=np.float32).reshape(3, 6)
    np.save("a.npy", values)
    np.testing.assert_array_equal(latents_of_file(SERVED, "a.npy"), values)
    np.testing.assert_array_equal(latents_of_file(SERVED, "a.npy", 2), values[:2])
    with pytest.raises(InvalidRequest, match=r"^--n: at most 3 for a\.npy, not 4"):
        latents_of_file(SERVED, "a.npy", 4, "--n")


def test_images_keep_the_order_of_the_latents_over_several_requests(server: FakeServer) -> None:
    server.models = [model(max_request_rows=2)]
    latents = latents_from_seed(0, 5, 6)
    with GanClient(server.address) as client:
        images = np.stack(list(images_of(client, served_generator(client, "dcgan", None), latents)))
    np.testing.assert_array_equal(images, pixels_of(latents, 4, 3, 1))
    assert [request.latents.shape[0] for request in server.requests] == [2, 2, 1]


@pytest.mark.parametrize(("count", "scale"), [(10_001, 1), (10_000, 64)])
def test_a_picture_that_would_be_too_large_is_refused(count: int, scale: int) -> None:
    check_picture_size(SERVED, 10_000)
    with pytest.raises(InvalidRequest, match=f"^--out: {count} images of {3 * scale}x{4 * scale} are too many"):
        check_picture_size(SERVED, count, scale)
