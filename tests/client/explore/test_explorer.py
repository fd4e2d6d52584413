from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from client import GanClient
from client.errors import InvalidRequest
from client.explore import explorer as explorer_module
from client.explore.commands_text import Commands
from client.explore.directions import Directions
from client.explore.explorer import Explorer
from client.explore.watch import Watch
from ganserve.latents import DISTRIBUTIONS, latents_from_seed
from tests.client.fake_server import FakeServer, model


def test_directions_are_cached_per_model_not_per_name_and_version(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first_axes(
        _generate: object, latent_dim: int, distribution: str, *, progress: Callable[[float], object]
    ) -> Directions:
        assert distribution == "normal"
        progress(1.0)
        return Directions(np.eye(latent_dim, dtype=np.float32)[:2], (0.6, 0.4), 1.0)

    monkeypatch.setattr(explorer_module, "strongest_directions", first_axes)
    with GanClient(server.address, timeout_s=5) as client:
        explorer = Explorer(client, Watch(client, max_age_s=1000), Commands())
        before = explorer.find("dcgan:3")
        found = explorer.find_directions(before, lambda _: None)
        assert explorer.known_directions(before) is found
        server.models = [model(latent_dim=4)]
        [after] = explorer.watch.snapshot(now=True).models
        assert explorer.known_directions(after) is None
        assert explorer.find_directions(after, lambda _: None).vectors.shape == (2, 4)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_latents_are_drawn_from_the_models_distribution(server: FakeServer, distribution: str) -> None:
    server.models = [model(latent_distribution=distribution)]
    with GanClient(server.address, timeout_s=5) as client:
        explorer = Explorer(client, Watch(client, max_age_s=1000), Commands())
        [served] = explorer.watch.snapshot(now=True).models
        np.testing.assert_array_equal(explorer.latents(served, 3, 2), latents_from_seed(3, 2, 6, distribution))


def test_latents_of_an_unknown_distribution_are_refused(server: FakeServer) -> None:
    server.models = [model(latent_distribution="cauchy")]
    with GanClient(server.address, timeout_s=5) as client:
        explorer = Explorer(client, Watch(client, max_age_s=1000), Commands())
        [served] = explorer.watch.snapshot(now=True).models
        with pytest.raises(InvalidRequest, match=r"takes 'cauchy' latents, which this page cannot draw; pick"):
            explorer.latents(served, 3, 2)
