"""`ganclient translate` against the fake server, which answers with negatives of 3x4 images."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
from click.testing import Result
from numpy.typing import NDArray
from PIL import Image

from client.files import picture_files
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import FakeServer, encoded, translator
from tests.client.test_main import error_of, on_a_terminal, run

Code = grpc.StatusCode
Translate = Callable[..., Result]


def picture(seed: int, height: int = 4, width: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write(name: str, pixels: NDArray[np.uint8], file_format: str = "PNG") -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"lossless": True} if file_format == "WEBP" else {}
    Image.fromarray(pixels).save(path, file_format, **options)


def pixels_of(name: str | Path) -> NDArray[np.uint8]:
    with Image.open(name) as image:
        return np.asarray(image)


def files_below(folder: str) -> list[str]:
    return sorted(str(path) for path in Path(folder).rglob("*") if not path.is_dir())


@pytest.fixture
def translate(server: FakeServer, here: Path) -> Translate:
    def call(*arguments: str, model: str = "a2b", out: str = "out") -> Result:
        return run("translate", "--model", model, "--out", out, *arguments, address=server.address)

    return call


def test_a_folder_becomes_a_folder_of_the_same_names(translate: Translate) -> None:
    for index in range(9):
        write(f"in/{index}.png", picture(index))
    write("in/deep/er/x.webp", picture(10), "WEBP")
    result = translate("in")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "10 images of a2b:5 -> out/\n"
    assert files_below("out") == [*(f"out/{index}.png" for index in range(9)), "out/deep/er/x.png"]
    for index in range(9):
        np.testing.assert_array_equal(pixels_of(f"out/{index}.png"), 255 - picture(index))
    np.testing.assert_array_equal(pixels_of("out/deep/er/x.png"), 255 - picture(10))


def test_what_is_left_out_is_counted_on_one_line(translate: Translate) -> None:
    for name in ("in/a.png", "in/b", "in/.c.png"):
        write(name, picture(0))
    for name in ("in/x.txt", "in/y.txt", "in/z.heic"):
        Path(name).write_text("no picture")
    result = translate("in")
    assert (result.exit_code, result.stderr) == (0, "left out: 2 x .txt, 1 x .heic, 1 x hidden\n")
    assert files_below("out") == ["out/a.png", "out/b.png"]


def test_png_and_jpeg_files_are_sent_untouched(server: FakeServer, translate: Translate) -> None:
    write("a.png", picture(0))
    write("b.jpg", picture(1), "JPEG")
    assert translate("a.png", "b.jpg").exit_code == 0
    assert list(server.translations[0].encoded.data) == [Path("a.png").read_bytes(), Path("b.jpg").read_bytes()]


def test_flags_reach_the_server(server: FakeServer, translate: Translate) -> None:
    server.models = [translator(version=4), translator(version=5)]
    write("a.png", picture(0, 8, 8))
    result = translate("a.png", "--resize", "--version", "4", "--format", "jpeg")
    assert result.stdout == "1 image of a2b:4 -> out/\n"
    [request] = server.translations
    assert (request.version, request.resize, request.format) == (4, True, pb.IMAGE_FORMAT_JPEG)
    with Image.open("out/a.jpg") as made:
        assert (made.format, made.size) == ("JPEG", (3, 4))


def test_bad_files_are_named_and_do_not_stop_the_others(server: FakeServer, translate: Translate) -> None:
    for index in range(17):
        write(f"in/{index:02}.png", picture(index))
    write("in/large.png", picture(0, 9, 9))
    Path("in/empty.jpg").touch()
    Path("in/text.png").write_text("hello")
    Path("in/broken.png").write_bytes(encoded(picture(0))[:40])
    result = translate("in")
    assert result.exit_code == 2
    assert result.stdout == "17 images of a2b:5 -> out/, 4 failed\n"
    assert sorted(result.stderr.splitlines()) == [
        "in/broken.png: is no image",
        "in/empty.jpg: is empty",
        "in/large.png: is 9x9, not 3x4: give --resize",
        "in/text.png: is no picture, or in an unknown format; convert it to PNG",
    ]
    assert files_below("out") == [f"out/{index:02}.png" for index in range(17)]
    for index in range(17):
        np.testing.assert_array_equal(pixels_of(f"out/{index:02}.png"), 255 - picture(index))
    assert len(server.translations) < 40


def test_if_all_files_fail_alike_only_a_few_lines_are_printed(translate: Translate) -> None:
    for index in range(40):
        write(f"in/{index:02}.png", picture(index, 9, index + 4))
    result = translate("in")
    assert result.exit_code == 2
    assert result.stdout == "0 images of a2b:5 -> out/, 40 failed\n"
    lines = result.stderr.splitlines()
    assert len(lines) == 6
    assert lines[0] == "in/00.png: is 4x9, not 3x4: give --resize"
    assert lines[5] == "... and 35 more like this: is 4x9, not 3x4: give --resize"
    assert not Path("out").exists()


def test_names_from_disk_are_printed_on_one_line(translate: Translate) -> None:
    name = b"in/a\n\x1b[2J\xff.png"
    Path("in").mkdir()
    Path(os.fsdecode(name)).touch()
    result = translate("in")
    assert result.stderr == "in/a ?[2J?.png: is empty\n"


def test_existing_files_and_links_are_replaced(here: Path, translate: Translate) -> None:
    write("in/a.png", picture(0))
    write("in/b.png", picture(1))
    write("out/a.png", picture(5))
    Path("precious.png").write_bytes(b"precious")
    (here / "out" / "b.png").symlink_to("../precious.png")
    assert translate("in").exit_code == 0
    np.testing.assert_array_equal(pixels_of("out/a.png"), 255 - picture(0))
    assert Path("precious.png").read_bytes() == b"precious"
    assert files_below("out") == ["out/a.png", "out/b.png"]


def test_an_unwritable_output_is_one_failure(translate: Translate) -> None:
    write("in/a.png", picture(0))
    write("in/b.png", picture(1))
    Path("out/a.png").mkdir(parents=True)
    result = translate("in")
    assert result.exit_code == 2
    assert result.stdout == "1 image of a2b:5 -> out/, 1 failed\n"
    assert result.stderr.startswith("in/a.png: out/a.png: cannot be written (Is a directory)")


def test_a_full_disk_ends_the_run(server: FakeServer, translate: Translate, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(20):
        write(f"in/{index:02}.png", picture(index))
    put, left = Path.write_bytes, iter((True, True))

    def full(path: Path, data: bytes) -> int:
        if not next(left, False):
            put(path, data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return put(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    result = translate("in")
    assert result.exit_code == 2
    assert "out/02.png: cannot be written (No space left on device)" in error_of(result)
    assert result.stdout == "2 images of a2b:5 -> out/, 18 left\n"
    assert files_below("out") == ["out/00.png", "out/01.png"]
    assert len(server.translations) == 1


def test_an_outage_ends_the_run_and_reports_the_outputs_so_far(server: FakeServer, translate: Translate) -> None:
    for index in range(20):
        write(f"in/{index:02}.png", picture(index))

    def once(request: pb.TranslateRequest) -> pb.TranslateResponse:
        server.failures.append((Code.INTERNAL, "out of order"))
        return server.translation_for(request)

    server.translate_answer = once
    result = translate("in")
    assert result.exit_code == 1
    assert result.stdout == "4 images of a2b:5 -> out/, 16 left\n"
    assert "out of order" in error_of(result)
    assert len(files_below("out")) == 4


def test_a_response_without_files_is_a_server_fault(server: FakeServer, translate: Translate) -> None:
    write("a.png", picture(0))
    server.translate_answer = lambda _: pb.TranslateResponse(model="a2b", version=5)
    result = translate("a.png")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "it holds no PNG files" in error_of(result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: neither a file nor a folder; check the name"),
        (["in", "more"], "in/a.png and more/a.jpg would both become out/a.png; rename one of them"),
        (["in", "--out", "in"], "in/a.png is an input and would be replaced; name another --out folder"),
        (["in", "--out", "in/a.png"], "'--out': in/a.png: cannot be written"),
        (["in", "--grid", "a.gan"], "'--grid': a.gan: has no known image extension"),
        (["in", "--format", "gif"], "'--format'"),
        (["in", "--version", "0"], "'--version': must be a whole number"),
        ([], "PATH..."),
    ],
)
def test_a_mistake_prints_a_one_line_error_up_front(
    server: FakeServer, translate: Translate, arguments: list[str], message: str
) -> None:
    write("in/a.png", picture(0))
    write("more/a.jpg", picture(0), "JPEG")
    before = files_below(".")
    result = translate(*arguments)
    assert result.exit_code == 2
    assert message in error_of(result)
    assert server.list_calls == 0
    assert files_below(".") == before


def test_a_generator_and_an_unknown_model_print_a_one_line_error(translate: Translate) -> None:
    write("a.png", picture(0))
    generator, unknown = translate("a.png", model="dcgan"), translate("a.png", model="b2a")
    assert (generator.exit_code, unknown.exit_code) == (2, 2)
    assert "model: 'dcgan' makes images from latents; use GanClient.generate, or ganclient grid" in error_of(generator)
    assert "no model 'b2a' is served; served models: a2b, dcgan" in error_of(unknown)
    assert (generator.stdout, unknown.stdout) == ("", "")


def test_no_more_files_are_read_than_one_request_holds(
    server: FakeServer, translate: Translate, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(30):
        write(f"in/{index:02}.png", picture(index))
    read, held = 0, []
    real = picture_files.read_picture

    def counting(path: str) -> bytes:
        nonlocal read
        read += 1
        return real(path)

    def answer(request: pb.TranslateRequest) -> pb.TranslateResponse:
        asked = sum(len(sent.encoded.data) for sent in server.translations)
        held.append(read - asked)
        return server.translation_for(request)

    monkeypatch.setattr("client.files.translation.read_picture", counting)
    server.translate_answer = answer
    assert translate("in").exit_code == 0
    assert len(held) > 1
    assert max(held) <= 1


def test_a_terminal_shows_progress_with_failures_above_it(server: FakeServer, tmp_path: Path) -> None:
    for index in range(30):
        write(str(tmp_path / "in" / f"{index:02}.png"), picture(index))
    (tmp_path / "in" / "empty.png").touch()
    arguments = ["translate", "--model", "a2b", "in", "--out", "out", "--address", server.address]
    exit_code, shown = on_a_terminal(arguments, tmp_path)
    assert exit_code == 2, shown
    assert "31/31" in shown
    assert "images/s" in shown
    assert "in/empty.png: is empty" in shown
    assert "30 images of a2b:5 -> out/, 1 failed" in shown


def test_the_target_of_an_input_link_is_kept(here: Path, translate: Translate) -> None:
    write("photos/a.png", picture(0))
    (here / "sel").mkdir()
    (here / "sel" / "a.png").symlink_to("../photos/a.png")
    result = translate("sel", out="photos")
    assert result.exit_code == 2
    assert "photos/a.png is the target of the link sel/a.png and would be replaced; name another --out" in error_of(
        result
    )
    np.testing.assert_array_equal(pixels_of("photos/a.png"), picture(0))


def test_help_says_which_files_of_a_folder_are_skipped() -> None:
    shown = " ".join(run("translate", "--help").stdout.split())
    assert (
        "Hidden files, links to folders, and files that are no pictures by suffix or by content are left out" in shown
    )


def test_json_has_the_counts(translate: Translate) -> None:
    write("in/a.png", picture(0))
    write("in/b.png", picture(1))
    Path("in/c.png").write_bytes(b"no picture")
    result = translate("in", "--grid", "pairs.png", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout) == {
        "folder": "out/",
        "model": "a2b",
        "version": 5,
        "written": 2,
        "failed": 1,
        "left": 0,
        "grid_pairs": 2,
    }
    assert "c.png" in result.stderr


def test_grid_shows_inputs_next_to_outputs(translate: Translate) -> None:
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


def test_an_empty_grid_is_not_written_and_reported(translate: Translate) -> None:
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


def test_an_unwritable_grid_does_not_hide_the_first_error(server: FakeServer, translate: Translate) -> None:
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
