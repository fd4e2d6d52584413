"""Tests for server.rest.pictures."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from ganserve.grids import image_grid, magnified
from ganserve.latents import latents_from_seed
from server.rest import pictures
from tests.server.rest.conftest import Ask, error_of
from tests.server.tiny_bundles import tiny_pixels, tiny_translation


def pixels_of(body: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(body)) as image:
        return np.asarray(image)


def picture(size: tuple[int, int], kind: str = "PNG") -> tuple[bytes, np.ndarray]:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue(), pixels


@pytest.mark.parametrize("version", ["", "&version=1"])
async def test_a_seed_is_an_image(ask: Ask, version: str) -> None:
    reply = await ask(f"/v1/models/tiny/image.png?seed=7{version}")
    assert (reply.status, reply.headers["content-type"]) == (200, "image/png")
    np.testing.assert_array_equal(pixels_of(reply.body), tiny_pixels(latents_from_seed(7, 1, 4))[0])


@pytest.mark.parametrize(
    ("query", "rows", "seed", "columns", "scale"),
    [("", 64, 0, None, 1), ("?n=3&seed=7&columns=2&scale=3", 3, 7, 2, 3), ("?n=1", 1, 0, None, 1)],
)
async def test_a_grid_shows_the_images_of_a_seed(
    ask: Ask, query: str, rows: int, seed: int, columns: int | None, scale: int
) -> None:
    reply = await ask(f"/v1/models/tiny/grid.png{query}")
    expected = image_grid(magnified(tiny_pixels(latents_from_seed(seed, rows, 4)), scale), columns)
    np.testing.assert_array_equal(pixels_of(reply.body), np.asarray(expected))


async def test_a_head_request_tells_the_size(ask: Ask) -> None:
    shown, told = await ask("/v1/models/tiny/image.png"), await ask("/v1/models/tiny/image.png", method="HEAD")
    assert told.body == b""
    assert told.headers["content-length"] == str(len(shown.body))


async def test_a_picture_is_translated(ask: Ask) -> None:
    file, pixels = picture((4, 6))
    reply = await ask("/v1/models/tiny-a2b/translate?resize=false", file, headers={"Content-Type": "image/png"})
    assert (reply.status, reply.headers["content-type"]) == (200, "image/png")
    np.testing.assert_array_equal(pixels_of(reply.body), tiny_translation(pixels))


async def test_a_photo_of_another_size_is_resized_unless_refused(ask: Ask) -> None:
    file, _ = picture((40, 30), "JPEG")
    reply = await ask("/v1/models/tiny-a2b/translate", file, headers={"Content-Type": "image/jpeg"})
    assert pixels_of(reply.body).shape == (4, 6, 3)
    refused = await ask("/v1/models/tiny-a2b/translate?resize=false", file)
    assert refused.status == 400


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "message"),
    [
        ("/v1/models/tiny/grid.png?n=0", None, {}, 400, "n is '0'"),
        ("/v1/models/tiny/grid.png?n=2000", None, {}, 400, "1024"),
        ("/v1/models/tiny/grid.png?sed=7", None, {}, 400, "unknown parameter 'sed' in the query: use n, seed"),
        ("/v1/models/tiny/image.png?version=9", None, {}, 404, "version"),
        ("/v1/models/tiny/image.png?version=stable", None, {}, 404, "stable"),
        ("/v1/models/other/image.png", None, {}, 404, "no model 'other'"),
        ("/v1/models/%ff%fe/image.png", None, {}, 404, "no model"),
        ("/v1/models/tiny/image.png?seed=%ff", None, {}, 400, "query"),
        ("/v1/models/tiny-a2b/image.png", None, {}, 400, "Translate"),
        ("/v1/models/tiny/translate", b"x", {}, 400, "Generate"),
        ("/v1/models/tiny-a2b/translate", b"no picture", {}, 400, "PNG"),
        ("/v1/models/tiny-a2b/translate", b"", {}, 400, ""),
        ("/v1/models/tiny-a2b/translate", b"x", {"Content-Type": "multipart/form-data; boundary=x"}, 415, "form"),
        ("/v1/models/tiny-a2b/translate", b"x", {"Content-Encoding": "gzip"}, 415, "compressed"),
    ],
)
async def test_a_wrong_request_is_refused(
    ask: Ask, path: str, body: bytes | None, headers: dict[str, str], status: int, message: str
) -> None:
    reply = await ask(path, body, headers=headers)
    assert (reply.status, message in error_of(reply)) == (status, True), reply


async def test_a_huge_grid_is_refused(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_GRID_PIXELS", 4 * 6 * 4)
    assert (await ask("/v1/models/tiny/grid.png?n=4")).status == 200
    assert (await ask("/v1/models/tiny/grid.png?n=4&scale=2")).status == 400


async def test_models_are_listed_and_described(ask: Ask) -> None:
    models = json.loads((await ask("/v1/models")).body)["models"]
    assert [model["name"] for model in models] == ["tiny", "tiny-a2b"]
    described = json.loads((await ask("/v1/models/tiny")).body)
    assert described["model"] == models[0]
    assert described["card"]["name"] == "tiny"


async def test_the_first_page_links_to_pictures_that_exist(ask: Ask) -> None:
    reply = await ask("/")
    assert reply.headers["content-type"].startswith("text/html")
    page = reply.body.decode()
    links = [part.split('"')[0].replace("&amp;", "&") for part in page.replace('src="', 'href="').split('href="')[1:]]
    assert len(links) > 5
    for link in links:
        assert (await ask(link)).status == 200, link
