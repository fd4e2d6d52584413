"""GanClient.grid, interpolate and traverse, and PIL images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from client import GanClient, InvalidRequest
from ganserve.grids import image_grid
from ganserve.latents import DISTRIBUTIONS, latents_from_seed
from tests.client.fake_server import FakeServer, model, pixels_of

START, END = latents_from_seed(1, 1, 6)[0], latents_from_seed(2, 1, 6)[0]


def sent_latents(server: FakeServer) -> NDArray[np.float32]:
    """float32 (rows, 6), of all requests."""
    return np.concatenate([np.frombuffer(sent.latents.data, "<f4").reshape(-1, 6) for sent in server.requests])


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_pictures_are_the_pixels_as_pil_images(server: FakeServer, client: GanClient, channels: int, mode: str) -> None:
    server.models = [model(channels=channels)]
    pictures = client.generate_pictures("dcgan", seed=1, count=3)
    expected = pixels_of(latents_from_seed(1, 3, 6), 4, 3, channels)
    assert [picture.mode for picture in pictures] == [mode] * 3
    made = np.stack([np.asarray(picture).reshape(4, 3, channels) for picture in pictures])
    np.testing.assert_array_equal(made, expected)


def test_a_grid_shows_the_images_of_the_seed(client: GanClient) -> None:
    expected = image_grid(pixels_of(latents_from_seed(4, 10, 6), 4, 3, 1), 5)
    assert client.grid("dcgan", count=10, seed=4, columns=5).tobytes() == expected.tobytes()
    assert client.grid("dcgan", seed=4).size == (2 + 8 * 5, 2 + 8 * 6)


@pytest.mark.parametrize("columns", [0, -1, 1.5])
def test_columns_must_be_a_whole_number(server: FakeServer, client: GanClient, columns: Any) -> None:
    with pytest.raises(InvalidRequest, match="columns: must be a whole number"):
        client.grid("dcgan", columns=columns)
    assert server.requests == []


@pytest.mark.parametrize("ends", [(1, 2), (START, END), (START.tolist(), 2)])
def test_a_linear_path_is_even_between_seeds_and_between_latents(
    server: FakeServer, client: GanClient, ends: tuple[Any, Any]
) -> None:
    images = client.interpolate("dcgan", *ends, steps=5, method="linear")
    latents = sent_latents(server)
    np.testing.assert_allclose(latents, START + np.linspace(0, 1, 5)[:, None] * (END - START), atol=1e-6)
    np.testing.assert_array_equal(images, pixels_of(latents, 4, 3, 1))


def test_a_spherical_path_has_equal_angles(server: FakeServer, client: GanClient) -> None:
    client.interpolate("dcgan", [2, 0, 0, 0, 0, 0], [0, 2, 0, 0, 0, 0], steps=4)
    angles = np.deg2rad([0, 30, 60, 90])
    np.testing.assert_allclose(
        sent_latents(server)[:, :2], 2 * np.stack([np.cos(angles), np.sin(angles)], 1), atol=1e-6
    )


def test_a_loop_returns_without_repeating_an_image(server: FakeServer, client: GanClient) -> None:
    images = client.interpolate("dcgan", 1, 2, steps=4, loop=True)
    latents = sent_latents(server)
    assert len(images) == 6
    np.testing.assert_array_equal(latents[[0, 3]], [START, END])
    np.testing.assert_allclose(latents[4:], latents[2:0:-1], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 1}, r"steps: must be a whole number in 2 \.\. 500000, not 1"),
        ({"steps": 2.5}, "steps: must be a whole number"),
        ({"method": "curved"}, "method: must be 'spherical' or 'linear', not 'curved'"),
        ({"start": -1}, r"start: must be a seed in 0 \.\. 2\*\*64 - 1, or one latent of 6 finite numbers"),
        ({"end": [1.0, 2.0]}, "end: must have 6 numbers for this model, not 2"),
        ({"end": [[0.0] * 6]}, "end: must be a seed .*or one latent of 6"),
        ({"end": [float("nan")] * 6}, "end: must be a seed .*or one latent of 6 finite numbers"),
        ({"end": "2"}, "end: must be a seed"),
        ({"end": [[1.0], [1.0, 2.0]]}, "end: must be a seed"),
    ],
)
def test_invalid_paths_are_refused(
    server: FakeServer, client: GanClient, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        client.interpolate("dcgan", **({"start": 1, "end": 2} | arguments))
    assert server.requests == []


@pytest.mark.parametrize("ends", [(1, START), (START, 2), (1, 2)])
def test_seeds_are_refused_if_the_client_cannot_draw_the_models_distribution(
    server: FakeServer, client: GanClient, ends: tuple[Any, Any]
) -> None:
    server.models = [model(latent_distribution="cauchy")]
    with pytest.raises(InvalidRequest, match=r"cannot draw the 'cauchy' latents of 'dcgan'; .* give latents"):
        client.interpolate("dcgan", *ends)
    assert server.requests == []
    assert len(client.interpolate("dcgan", START, END)) == 8


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_the_ends_of_a_path_are_drawn_from_the_models_distribution(
    server: FakeServer, client: GanClient, distribution: str
) -> None:
    server.models = [model(latent_distribution=distribution)]
    ends = [latents_from_seed(seed, 1, 6, distribution)[0] for seed in (1, 2)]
    np.testing.assert_array_equal(client.interpolate("dcgan", 1, 2), client.interpolate("dcgan", *ends))


def test_a_sheet_has_a_row_per_dimension_and_value(server: FakeServer, client: GanClient) -> None:
    latents = latents_from_seed(0, 4, 6)
    sheet = client.traverse("dcgan", latents, dimensions=[1, 4], values=[-3, 0, 3])
    assert sheet.shape == (6, 4, 4, 3, 1)
    for line, (dimension, value) in enumerate([(1, -3), (1, 0), (1, 3), (4, -3), (4, 0), (4, 3)]):
        changed = latents.copy()
        changed[:, dimension] = value
        np.testing.assert_array_equal(sheet[line], pixels_of(changed, 4, 3, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dimensions": [6]}, r"dimensions: 6 is not a dimension of these latents"),
        ({"dimensions": [-1]}, "dimensions: must be a whole number"),
        ({"dimensions": [1.5]}, "dimensions: must be a whole number"),
        ({"dimensions": []}, "give at least one"),
        ({"values": [float("inf")]}, "values: must be finite"),
        ({"latents": [1.0]}, "latents: must have"),
    ],
)
def test_invalid_sheets_are_refused(
    server: FakeServer, client: GanClient, arguments: dict[str, Any], message: str
) -> None:
    asked: dict[str, Any] = {"latents": [[0.0] * 6], "dimensions": [0], "values": [0.0]} | arguments
    with pytest.raises(InvalidRequest, match=message):
        client.traverse("dcgan", **asked)
    assert server.requests == []
