from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from ganserve.grids import image_grid
from ganserve.latents import latents_from_seed
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import FakeServer, model, pixels_of
from tests.client.test_main import error_of, run

needs_av = pytest.mark.skipif(importlib.util.find_spec("av") is None, reason="PyAV is not installed")


def arc(start: NDArray[np.float32], end: NDArray[np.float32], steps: int) -> NDArray[np.float64]:
    """Spherical interpolation by the arc-cosine formula."""
    a, b = start.astype(float), end.astype(float)
    angle = np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    at = np.linspace(0, 1, steps)[:, np.newaxis]
    points: NDArray[np.float64] = (np.sin((1 - at) * angle) * a + np.sin(at * angle) * b) / np.sin(angle)
    return points


def sent(server: FakeServer) -> NDArray[np.float32]:
    parts = [np.frombuffer(request.latents.data, "<f4").reshape(-1, 6) for request in server.requests]
    return np.concatenate(parts)


def picture(path: str) -> NDArray[np.uint8]:
    with Image.open(path) as file:
        return np.asarray(file)


def test_a_strip_from_one_image_of_a_seed_to_the_next(server: FakeServer, here: Path) -> None:
    result = run("interpolate", "--model", "dcgan", "--seed", "7", "--scale", "1", address=server.address)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "interpolation.png: 10 images of dcgan:3 through 2 anchors (seed 7)\n"
    start, end = latents_from_seed(7, 2, 6)
    np.testing.assert_allclose(sent(server), arc(start, end, 10), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(sent(server)[[0, -1]], [start, end])
    np.testing.assert_array_equal(picture("interpolation.png"), image_grid(pixels_of(sent(server), 4, 3, 1), 10))


def test_a_linear_path_leads_from_one_seed_to_another(server: FakeServer, here: Path) -> None:
    arguments = ["interpolate", "--model", "dcgan", "--from-seed", "1", "--to-seed", "2", "--steps", "5", "--linear"]
    result = run(*arguments, "--json", "--save-latents", "way.npy", address=server.address)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "file": "interpolation.png",
        "model": "dcgan",
        "version": 3,
        "images": 5,
        "anchors": 2,
        "steps": 5,
        "method": "linear",
        "loop": False,
        "seed": None,
        "from_seed": 1,
        "to_seed": 2,
        "latents": None,
        "fps": None,
    }
    [start], [end] = latents_from_seed(1, 1, 6), latents_from_seed(2, 1, 6)
    np.testing.assert_allclose(sent(server), np.linspace(start, end, 5), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(np.load("way.npy", allow_pickle=False), sent(server))


def test_a_strip_through_several_latents_has_a_row_per_pair(server: FakeServer, here: Path) -> None:
    stops = np.random.default_rng(5).standard_normal((3, 6)).astype(np.float32)
    np.save("stops.npy", stops)
    arguments = ["interpolate", "--model", "dcgan", "--latents", "stops.npy", "--steps", "4", "--loop", "--scale", "1"]
    result = run(*arguments, address=server.address)
    assert result.stdout == "interpolation.png: 9 images of dcgan:3 through 3 anchors (latents of stops.npy)\n"
    np.testing.assert_array_equal(sent(server)[::3], stops)
    lines = [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 0]]
    shown = pixels_of(sent(server), 4, 3, 1)[np.array(lines).ravel()]
    np.testing.assert_array_equal(picture("interpolation.png"), image_grid(shown, 4))


def test_a_gif_shows_every_image_in_order_and_magnified(server: FakeServer, here: Path) -> None:
    arguments = ["interpolate", "--model", "dcgan", "--seed", "7", "--out", "walk.gif", "--steps", "6", "--loop"]
    result = run(*arguments, "--fps", "10", address=server.address)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "walk.gif: 10 images of dcgan:3 through 2 anchors, 1 s (seed 7)\n"
    images = pixels_of(sent(server), 4, 3, 1)[..., 0]
    with Image.open("walk.gif") as file:
        frames = [np.asarray(frame.convert("L")) for frame in ImageSequence.Iterator(file)]
        assert file.size == (192, 256)  # 64 times
    assert len(frames) == 10
    for frame, image in zip(frames, images, strict=True):
        np.testing.assert_array_equal(frame, np.kron(image, np.ones((64, 64), np.uint8)))


@needs_av
def test_an_mp4_holds_every_image(server: FakeServer, here: Path) -> None:
    import av

    arguments = ["interpolate", "--model", "dcgan", "--seed", "7", "--out", "walk.mp4", "--scale", "5"]
    result = run(*arguments, address=server.address)
    assert result.stdout == "walk.mp4: 40 images of dcgan:3 through 2 anchors, 2 s (seed 7)\n"
    with av.open("walk.mp4") as file:
        stream = file.streams.video[0]
        assert (stream.width, stream.height) == (16, 20)
        assert stream.average_rate == 20
        assert sum(1 for _ in file.decode(stream)) == 40


def test_a_preview_of_an_animation_shows_some_of_its_images(server: FakeServer, here: Path) -> None:
    arguments = ["interpolate", "--model", "dcgan", "--seed", "7", "--out", "walk.gif", "--preview"]
    result = run(*arguments, address=server.address)
    assert result.exit_code == 0
    assert "▀" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("walk.gif: 40 images")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from-seed", "1"], "--from-seed and --to-seed: give both, or --seed alone"),
        (["--to-seed", "1"], "--from-seed and --to-seed: give both"),
        (["--seed", "1", "--from-seed", "1", "--to-seed", "2"], "--seed and --from-seed: give only one of them"),
        (["--seed", "1", "--latents", "one.npy"], "--seed and --latents: give only one of them"),
        (["--from-seed", "1", "--to-seed", "2", "--anchors", "3"], "--anchors: does not apply to --from-seed"),
        (["--anchors", "1"], "'--anchors': must be a whole number in 2 .. 1000, not '1'"),
        (["--steps", "1"], "'--steps': must be a whole number in 2 .. 1000, not '1'"),
        (["--fps", "10"], "--fps: applies to a GIF or MP4, not to interpolation.png; leave it out"),
        (["--fps", "60", "--out", "a.gif"], "--fps: at most 50 for a .gif file, not 60"),
        (["--fps", "0"], "'--fps': must be a whole number in 1 .. 60"),
        (["--out", "a.avi"], "'--out': a.avi: has no known image extension; use one of .gif, .mp4, .png, .jpg"),
        (["--out", "folder.gif"], "'--out': folder.gif: is a folder"),
        (["--latents", "one.npy"], "one.npy: holds 1 latent, but at least 2 are needed; add one, or give --seed"),
        (["--latents", "one.npy", "--anchors", "2"], "--anchors: at most 1 for one.npy, not 2"),
        (["--anchors", "1000", "--steps", "1000"], "--out: 999000 images of 3x4 are too many for one picture"),
        (["--anchors", "1000", "--steps", "1000", "--out", "a.gif"], "--steps: 999000 images of 192x256 are too many"),
        (["--scale", "65"], "'--scale': must be a whole number in 1 .. 64"),
        (["--model", "a2b"], "--model: 'a2b' does not generate images from latents"),
    ],
)
def test_a_mistake_prints_a_one_line_error_and_writes_nothing(
    server: FakeServer, here: Path, arguments: list[str], message: str
) -> None:
    np.save("one.npy", np.zeros((1, 6), np.float32))
    Path("folder.gif").mkdir()
    result = run("interpolate", "--model", "dcgan", *arguments, address=server.address)
    assert result.exit_code == 2
    assert message in error_of(result)
    assert sorted(path.name for path in here.iterdir()) == ["folder.gif", "one.npy"]
    assert server.requests == []


def test_without_pyav_an_mp4_is_refused_before_any_request(
    server: FakeServer, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = run("interpolate", "--model", "dcgan", "--out", "a.mp4", address=server.address)
    assert result.exit_code == 2
    assert "'--out': a.mp4: MP4 needs PyAV; pip install 'ganserve[video]', or name a .gif file" in error_of(result)
    assert server.requests == []


@pytest.mark.parametrize("name", ["a.png", "a.gif", pytest.param("a.mp4", marks=needs_av)])
def test_a_server_error_during_a_run_leaves_no_files(server: FakeServer, here: Path, name: str) -> None:
    server.models = [model(max_request_rows=10)]

    def once(request: pb.GenerateRequest) -> pb.GenerateResponse:
        server.failures.append((grpc.StatusCode.INTERNAL, "out of order"))
        return server.images_for(request)

    server.answer = once
    result = run("interpolate", "--model", "dcgan", "--out", name, "--steps", "30", address=server.address)
    assert result.exit_code == 1
    assert "out of order" in error_of(result)
    assert len(server.requests) >= 2
    assert list(here.iterdir()) == []
