from __future__ import annotations

import json
from pathlib import Path

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ganserve.grids import PADDING
from ganserve.latents import latents_from_seed
from tests.client.fake_server import FakeServer, model, pixels_of
from tests.client.test_main import error_of, run


def cells(path: str, lines: int, columns: int, height: int, width: int) -> NDArray[np.uint8]:
    """The images of a gray sheet without labels, (lines, columns, height, width)."""
    with Image.open(path) as sheet:
        pixels = np.asarray(sheet)
    assert pixels.shape == (PADDING + lines * (height + PADDING), PADDING + columns * (width + PADDING))
    images = pixels[PADDING:, PADDING:].reshape(lines, height + PADDING, columns, width + PADDING)
    return images[:, :height, :, :width].transpose(0, 2, 1, 3)


def test_the_default_sheet_has_15_rows_of_8_images(server: FakeServer, here: Path) -> None:
    server.models = [model(latent_dim=100)]
    result = run("traverse", "--model", "dcgan", "--seed", "7", "--no-labels", "--scale", "1", address=server.address)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "traversal.png: 15x8 images of dcgan:3, dimensions 5, 25, 45, 65, 85 at -3, 0, 3 (seed 7)\n"
    )
    made = cells("traversal.png", 15, 8, 4, 3)
    columns = latents_from_seed(7, 8, 100)
    for line in range(15):
        changed = columns.copy()
        changed[:, (5, 25, 45, 65, 85)[line // 3]] = (-3, 0, 3)[line % 3]
        np.testing.assert_array_equal(made[line], pixels_of(changed, 4, 3, 1)[..., 0])
    assert len(server.requests) == 1  # all 120 rows


def test_a_small_latent_gets_fitting_dimensions_and_a_note(server: FakeServer, here: Path) -> None:
    result = run("traverse", "--model", "dcgan", "--seed", "7", address=server.address)
    assert result.exit_code == 0
    assert "dcgan:3 has latents of 6 numbers; showing dimensions 0, 1, 3, 4, 5, evenly spaced" in result.stderr
    assert "dimensions 0, 1, 3, 4, 5 at -3, 0, 3" in result.stdout


def test_dimensions_values_and_latents_come_from_the_flags(server: FakeServer, here: Path) -> None:
    mine = np.arange(18, dtype=np.float32).reshape(3, 6) / 10
    np.save("mine.npy", mine)
    arguments = [
        "traverse",
        "--model",
        "dcgan",
        "--latents",
        "mine.npy",
        "--dims",
        "5,0",
        "--values",
        "-1.5,2",
        "--scale",
        "1",
        "--json",
    ]
    result = run(*arguments, "--n", "2", "--no-labels", "--save-latents", "sent.npy", address=server.address)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "file": "traversal.png",
        "model": "dcgan",
        "version": 3,
        "images": 8,
        "lines": 4,
        "columns": 2,
        "dimensions": [5, 0],
        "values": [-1.5, 2],
        "seed": None,
        "latents": "mine.npy",
    }
    sent = np.load("sent.npy", allow_pickle=False)
    expected = np.stack([mine[:2]] * 4)
    expected[0, :, 5], expected[1, :, 5], expected[2, :, 0], expected[3, :, 0] = -1.5, 2, -1.5, 2
    np.testing.assert_array_equal(sent, expected.reshape(8, 6))
    np.testing.assert_array_equal(cells("traversal.png", 4, 2, 4, 3).reshape(8, 4, 3), pixels_of(sent, 4, 3, 1)[..., 0])


def test_labels_are_on_the_left_and_change_no_image(server: FakeServer, here: Path) -> None:
    arguments = ["traverse", "--model", "dcgan", "--seed", "7", "--dims", "2", "--scale", "4"]
    run(*arguments, "--no-labels", "--out", "plain.png", address=server.address)
    result = run(*arguments, "--out", "labelled.png", address=server.address)
    assert (result.exit_code, result.stderr) == (0, "")
    with Image.open("plain.png") as plain, Image.open("labelled.png") as labelled:
        margin = labelled.width - plain.width
        assert labelled.height == plain.height
        np.testing.assert_array_equal(np.asarray(labelled)[:, margin:], np.asarray(plain))
        letters = np.asarray(labelled)[:, :margin] > 128
    lines = np.array_split(letters[PADDING:], 3)
    assert all(line.any() for line in lines)
    assert not np.array_equal(lines[0], lines[2])  # the labels differ


def test_images_too_small_for_labels_get_none_and_a_note(server: FakeServer, here: Path) -> None:
    result = run("traverse", "--model", "dcgan", "--seed", "7", "--dims", "2", "--scale", "1", address=server.address)
    assert result.exit_code == 0
    assert result.stderr == "the images are too small for labels; give --scale 2 or more, or --no-labels\n"
    cells("traversal.png", 3, 8, 4, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dims", "6"], "'--dims': 6 is not a dimension of dcgan:3; give 0 .. 5"),
        (["--dims", "-1"], "'--dims': must be a whole number in 0 .. 1048576, not '-1'"),
        (["--dims", "1,x"], "'--dims': must be a whole number in 0 .. 1048576, not 'x'"),
        (["--dims", ""], "'--dims': must be a whole number in 0 .. 1048576, not ''"),
        (["--dims", ",".join(["1"] * 101)], "'--dims': must be at most 100 numbers, separated by commas, not 101"),
        (["--values", "nan"], "'--values': must be numbers in -1e+30 .. 1e+30, not 'nan'"),
        (["--values", "1,,2"], "'--values': must be numbers in -1e+30 .. 1e+30, not ''"),
        (["--values", "1e99"], "'--values': must be numbers in -1e+30 .. 1e+30, not '1e99'"),
        (["--n", "0"], "'--n': must be a whole number in 1 .. 1000, not '0'"),
        (["--seed", "1", "--latents", "mine.npy"], "--seed and --latents: give only one of them"),
        (["--latents", "no.npy"], "no.npy: cannot be read (No such file or directory); name another file"),
        (["--latents", "wide.npy"], "wide.npy: its latents have 7 numbers each, but dcgan:3 takes 6; name"),
        (["--latents", "mine.npy", "--n", "3"], "--n: at most 2 for mine.npy, not 3"),
        (["--out", "a.gif"], "'--out': a.gif: has no known image extension; use one of .png"),
        (["--save-latents", "a.csv"], "'--save-latents': a.csv: latents are saved as .npy; use that extension"),
        (
            ["--n", "1000", "--values", ",".join(["1"] * 100)],
            "--out: 500000 images of 3x4 are too many for one",
        ),
        (
            ["--model", "a2b"],
            "--model: 'a2b' does not generate images from latents; name a model that does",
        ),
        (["--model", "nope"], "no model 'nope' is served; served models: a2b, dcgan"),
        (["--version", "9"], "version 9 of 'dcgan' is not served; served versions: 3"),
    ],
)
def test_a_mistake_prints_a_one_line_error_and_writes_nothing(
    server: FakeServer, here: Path, arguments: list[str], message: str
) -> None:
    np.save("mine.npy", np.zeros((2, 6), np.float32))
    np.save("wide.npy", np.zeros((2, 7), np.float32))
    result = run("traverse", "--model", "dcgan", *arguments, address=server.address)
    assert result.exit_code == 2
    assert message in result.stderr.splitlines()[-1]
    assert sorted(path.name for path in here.iterdir()) == ["mine.npy", "wide.npy"]


def test_latents_of_an_unknown_distribution_are_refused(server: FakeServer, here: Path) -> None:
    server.models = [model(latent_distribution="cauchy")]
    result = run("traverse", "--model", "dcgan", "--dims", "1", address=server.address)
    assert result.exit_code == 2
    assert "cannot draw the 'cauchy' latents of 'dcgan'; update the client, or give --latents" in error_of(result)


def test_a_server_error_prints_a_one_line_error(server: FakeServer, here: Path) -> None:
    server.failures.append((grpc.StatusCode.INTERNAL, "oh\nno"))
    result = run("traverse", "--model", "dcgan", "--dims", "1", address=server.address)
    assert result.exit_code == 1
    assert "oh no" in error_of(result)
    assert list(here.iterdir()) == []
