"""`ganclient translate --grid`, the picture of pairs, against the fake server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
from click.testing import Result

from ganserve.v1 import generator_pb2 as pb
from tests.client.commands.test_translate import picture, pixels_of, write
from tests.client.fake_server import FakeServer
from tests.client.test_main import error_of, run

Translate = Callable[..., Result]


@pytest.fixture
def translate(server: FakeServer, here: Path) -> Translate:
    def call(*arguments: str) -> Result:
        return run("translate", "--model", "a2b", "--out", "out", *arguments, address=server.address)

    return call


def test_grid_shows_before_beside_after(translate: Translate) -> None:
    for index in range(3):
        write(f"in/{index}.png", picture(index))
    Path("in/1.png").write_bytes(b"no picture")
    result = translate("in", "--grid", "pairs.png")
    assert result.exit_code == 2
    assert result.stdout == "2 images of a2b:5 -> out/, 1 failed\npairs.png: 2 pairs of input and output\n"
    pairs = pixels_of("pairs.png")
    assert pairs.shape == (2 + 2 * 6, 2 + 2 * 5, 3)
    np.testing.assert_array_equal(pairs[2:6, 2:5], picture(0))
    np.testing.assert_array_equal(pairs[2:6, 7:10], 255 - picture(0))
    np.testing.assert_array_equal(pairs[8:12, 2:5], picture(2))


def test_grid_of_nothing_is_not_written_and_said_so(translate: Translate) -> None:
    Path("a.png").touch()
    result = translate("a.png", "--grid", "pairs.png")
    assert result.exit_code == 2
    assert result.stderr == "a.png: is empty\npairs.png: not written, because no image was translated\n"
    assert not Path("pairs.png").exists()


@pytest.mark.parametrize("made", [4, 0])
def test_grid_shows_the_pairs_made_before_an_error(server: FakeServer, translate: Translate, made: int) -> None:
    for index in range(20):
        write(f"in/{index:02}.png", picture(index))

    def once(request: pb.TranslateRequest) -> pb.TranslateResponse:
        server.failures.append((grpc.StatusCode.INTERNAL, "out of order"))
        return server.translation_for(request)

    if made:
        server.translate_answer = once
    else:
        server.failures.append((grpc.StatusCode.INTERNAL, "out of order"))
    result = translate("in", "--grid", "pairs.png")
    assert result.exit_code == 1
    assert "out of order" in error_of(result)
    assert ("pairs.png: 4 pairs of input and output" in result.stdout) == bool(made)
    assert Path("pairs.png").exists() == bool(made)


def test_a_grid_that_cannot_be_written_does_not_hide_what_ended_it(server: FakeServer, translate: Translate) -> None:
    for index in range(20):
        write(f"in/{index:02}.png", picture(index))

    def once(request: pb.TranslateRequest) -> pb.TranslateResponse:
        server.failures.append((grpc.StatusCode.INTERNAL, "out of order"))
        Path("pairs.png").mkdir()
        return server.translation_for(request)

    server.translate_answer = once
    result = translate("in", "--grid", "pairs.png")
    assert result.exit_code == 1
    unwritable, ended = result.stderr.splitlines()
    assert unwritable.startswith("pairs.png: cannot be written (Is a directory)")
    assert "out of order" in ended


@pytest.mark.parametrize("grid", ["in/a.png", "out/a.png", "out/../in/a.png"])
def test_grid_replaces_no_other_file(server: FakeServer, translate: Translate, grid: str) -> None:
    write("in/a.png", picture(0))
    result = translate("in", "--grid", grid)
    assert result.exit_code == 2
    assert f"--grid: {grid} is one of the files to read or write; name another file" in error_of(result)
    assert server.translations == []


def test_grid_of_a_translator_says_which_command_to_use(server: FakeServer, here: Path) -> None:
    result = run("grid", "--model", "a2b", address=server.address)
    assert result.exit_code == 2
    assert "or use 'ganclient translate'" in error_of(result)
