from __future__ import annotations

import json
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image

from ganserve.grids import image_grid, labelled_lines
from ganserve.latents import latents_from_seed
from tests.client.fake_server import FakeServer, model, pixels_of
from tests.client.test_main import error_of, run


def test_grid_saves_the_images_of_the_seed_and_prints_the_path(server: FakeServer, here: Path) -> None:
    server.models = [model(channels=3)]
    result = run(
        "grid",
        "--model",
        "dcgan",
        "--n",
        "5",
        "--seed",
        "0",
        "--scale",
        "1",
        "--out",
        "new/a.png",
        address=server.address,
    )
    assert result.exit_code == 0, result.output
    assert result.stdout == "new/a.png: 5 images of dcgan:3 (seed 0)\n"
    assert result.stderr == ""
    expected = image_grid(pixels_of(latents_from_seed(0, 5, 6), 4, 3, 3))
    with Image.open(here / "new" / "a.png") as saved:
        np.testing.assert_array_equal(np.asarray(saved), np.asarray(expected))


@pytest.mark.parametrize(("flags", "scale"), [([], 64), (["--scale", "auto"], 64), (["--scale", "3"], 3)])
def test_small_images_are_magnified(server: FakeServer, here: Path, flags: list[str], scale: int) -> None:
    result = run("grid", "--model", "dcgan", "--n", "2", "--seed", "0", *flags, address=server.address)
    assert result.exit_code == 0, result.output
    images = pixels_of(latents_from_seed(0, 2, 6), 4, 3, 1).repeat(scale, axis=1).repeat(scale, axis=2)
    with Image.open(here / "grid.png") as saved:
        np.testing.assert_array_equal(np.asarray(saved), np.asarray(image_grid(images)))


def test_labels_are_the_numbers_of_the_first_images_of_the_lines(server: FakeServer, here: Path) -> None:
    flags = ["--model", "dcgan", "--n", "5", "--columns", "2", "--seed", "0", "--scale", "4"]
    assert run("grid", *flags, "--out", "plain.png", address=server.address).exit_code == 0
    assert run("grid", *flags, "--labels", "--out", "labelled.png", address=server.address).exit_code == 0
    with Image.open(here / "plain.png") as plain, Image.open(here / "labelled.png") as labelled:
        expected = labelled_lines(plain, ["0", "2", "4"])
        assert labelled.width > plain.width
        np.testing.assert_array_equal(np.asarray(labelled), np.asarray(expected))


def test_grid_needs_only_a_model(server: FakeServer, here: Path) -> None:
    result = run("grid", "--model", "dcgan", address=server.address)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("grid.png: 64 images of dcgan:3 (seed ")
    assert (here / "grid.png").is_file()


def test_the_printed_random_seed_makes_the_same_picture_again(server: FakeServer, here: Path) -> None:
    first = run("grid", "--model", "dcgan", "--n", "9", "--out", "a.png", address=server.address)
    seed = first.stdout.split("(seed ")[1].rstrip(")\n")
    second = run("grid", "--model", "dcgan", "--n", "9", "--out", "b.png", "--seed", seed, address=server.address)
    assert second.exit_code == 0
    assert (here / "a.png").read_bytes() == (here / "b.png").read_bytes()
    third = run("grid", "--model", "dcgan", "--n", "9", "--out", "c.png", address=server.address)
    assert third.stdout.split("(seed ")[1].rstrip(")\n") != seed


def test_grid_accepts_version_columns_and_address(server: FakeServer, here: Path) -> None:
    server.models = [model(version=1), model(version=2)]
    arguments = [
        "--n",
        "4",
        "--version",
        "1",
        "--columns",
        "4",
        "--scale",
        "1",
        "--address",
        server.address,
        "--timeout-s",
        "9.5",
    ]
    result = run("grid", "--model", "dcgan", *arguments)
    assert "4 images of dcgan:1 " in result.stdout
    with Image.open(here / "grid.png") as saved:
        assert saved.size == (2 + 4 * (3 + 2), 2 + 4 + 2)


def test_a_single_image_is_reported_in_the_singular(server: FakeServer, here: Path) -> None:
    result = run("grid", "--model", "dcgan", "--n", "1", "--seed", "7", address=server.address)
    assert result.stdout == "grid.png: 1 image of dcgan:3 (seed 7)\n"
    assert [path.name for path in here.iterdir()] == ["grid.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n", "0"], "'--n': must be a whole number in 1 .. 10000, not '0'"),
        (["--n", "10001"], "'--n': must be a whole number in 1 .. 10000, not '10001'"),
        (["--n", "many"], "'--n': must be a whole number in 1 .. 10000, not 'many'"),
        (["--seed", "-1"], "'--seed': must be a whole number in 0 .. 18446744073709551615"),
        (["--seed", "18446744073709551616"], "'--seed': must be a whole number in 0 .. 18446744073709551615"),
        (["--seed", "1.5"], "'--seed': must be a whole number"),
        (["--version", "0"], "'--version': must be a whole number in 1 .."),
        (["--scale", "0"], "'--scale': must be a whole number in 1 .. 64, not '0'"),
        (["--scale", "large"], "'--scale': must be a whole number in 1 .. 64, not 'large'"),
        (["--columns", "0"], "'--columns': must be a whole number in 1 .. 10000"),
        (["--timeout-s", "0"], "'--timeout-s': must be seconds in 0.001 .. 86400"),
        (["--timeout-s", "nan"], "'--timeout-s': must be seconds in 0.001 .. 86400"),
        (["--timeout-s", "soon"], "'--timeout-s': must be seconds in 0.001 .. 86400"),
        (["--address", "localhost"], "'--address' (env var: 'GANSERVE_ADDRESS'): address 'localhost': give HOST:PORT"),
        (["--out", "a.gan"], "'--out': a.gan: has no known image extension; use one of .png"),
        (["--out", "file/a.png"], "'--out': file/a.png: cannot be written"),
        (["--out", "folder.png"], "'--out': folder.png: is a folder"),
        (["--out", "a\n\x1b[2J\udcff.gan"], "'--out': a ?[2J?.gan: has no known image extension"),
        (["--bogus"], "No such option '--bogus'"),
    ],
)
def test_a_mistake_in_a_flag_prints_a_one_line_error_that_names_it(
    here: Path, arguments: list[str], message: str
) -> None:
    (here / "file").touch()
    (here / "folder.png").mkdir()
    result = run("grid", "--model", "dcgan", *arguments)
    assert result.exit_code == 2
    assert message in error_of(result)


def test_a_grid_that_is_too_large_is_refused_before_any_request(server: FakeServer, here: Path) -> None:
    server.models = [model(height=2048, width=2048)]
    result = run("grid", "--model", "dcgan", "--n", "10000", address=server.address)
    assert result.exit_code == 2
    assert error_of(result).startswith("Error: --out: 10000 images of 2048x2048 are too many for one picture;")
    assert (server.requests, list(here.iterdir())) == ([], [])


def test_an_unknown_model_exits_with_2_and_lists_the_served_ones(server: FakeServer, here: Path) -> None:
    result = run("grid", "--model", "nope", address=server.address)
    assert result.exit_code == 2
    assert error_of(result) == "Error: no model 'nope' is served; served models: a2b, dcgan"
    assert list(here.iterdir()) == []


def test_a_picture_that_cannot_be_saved_prints_a_one_line_error(server: FakeServer, here: Path) -> None:
    server.models = [model(channels=4)]
    result = run("grid", "--model", "dcgan", "--out", "a.jpg", address=server.address)
    assert result.exit_code == 2
    assert "a.jpg: cannot be written" in error_of(result)
    assert list(here.iterdir()) == []


def test_grid_as_json_names_the_file_the_model_and_the_seed(server: FakeServer, here: Path) -> None:
    result = run("grid", "--model", "dcgan", "--n", "2", "--seed", "7", "--json", address=server.address)
    facts = {"file": "grid.png", "model": "dcgan", "version": 3, "images": 2, "seed": 7}
    assert (result.exit_code, json.loads(result.stdout)) == (0, facts)


def test_grid_replaces_an_older_picture_only_when_the_new_one_is_complete(server: FakeServer, here: Path) -> None:
    (here / "grid.png").write_bytes(b"older")
    server.failures.append((grpc.StatusCode.INTERNAL, "broken"))
    assert run("grid", "--model", "dcgan", address=server.address).exit_code == 1
    assert (here / "grid.png").read_bytes() == b"older"
    assert run("grid", "--model", "dcgan", address=server.address).exit_code == 0
    with Image.open(here / "grid.png") as picture:
        assert picture.format == "PNG"


def test_an_unreachable_server_prints_a_one_line_error_and_exits_with_1(here: Path) -> None:
    with FakeServer().serve() as stopped:
        address = stopped.address
    result = run("grid", "--model", "dcgan", "--timeout-s", "0.2", address=address)
    assert result.exit_code == 1
    assert address in error_of(result)
    assert list(here.iterdir()) == []


def test_all_requests_of_a_grid_are_for_one_version(server: FakeServer, here: Path) -> None:
    server.models = [model(max_request_rows=4)]
    assert run("grid", "--model", "dcgan", "--n", "10", address=server.address).exit_code == 0
    assert [(request.version, request.latents.shape[0]) for request in server.requests] == [(3, 4), (3, 4), (3, 2)]
