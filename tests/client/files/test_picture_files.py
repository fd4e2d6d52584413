from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from client.errors import InvalidRequest
from client.files import picture_files
from client.files.picture_files import is_among, plan_translation, read_picture
from ganserve.picture_formats import picture_suffixes
from ganserve.pictures import UnreadablePictureError

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 3, 3), dtype=np.uint8)


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def planned(*inputs: str, out: str = "out", extension: str = ".png") -> dict[str, str]:
    plan = plan_translation(inputs, out, extension)
    assert plan.unreadable == []
    return {file.source: file.output for file in plan.files}


def test_a_folder_keeps_its_sub_folders_and_is_sorted(here: Path) -> None:
    touch("in/b.jpg", "in/a.png", "in/z/deep/c.webp", "in/d/e.JPEG", "in/notes.txt", "in/.hidden.png", "in/.git/x.png")
    assert list(planned("in").items()) == [
        ("in/a.png", "out/a.png"),
        ("in/b.jpg", "out/b.png"),
        ("in/d/e.JPEG", "out/d/e.png"),
        ("in/z/deep/c.webp", "out/z/deep/c.png"),
    ]


@pytest.mark.parametrize("suffix", [".png", ".jfif", ".avif", ".tga"])
def test_suffixes_are_known_in_small_letters_and_capitals(here: Path, suffix: str) -> None:
    touch(f"in/a{suffix}", f"in/b{suffix.upper()}")
    assert list(planned("in", extension=".jpg").values()) == ["out/a.jpg", "out/b.jpg"]


def test_content_decides_about_other_suffixes_and_the_rest_is_counted(here: Path) -> None:
    touch("in/notes.txt", "in/more.txt", "in/c.png", "in/.git/x.png", "in/.hidden.png", "other/d.png")
    Image.fromarray(PIXELS).save(here / "in" / "scan", "PNG")
    Image.fromarray(PIXELS).save(here / "in" / "photo.dat", "WEBP")
    os.mkfifo(here / "in" / "pipe.png")
    (here / "in" / "gone.png").symlink_to("nowhere.png")
    (here / "in" / "link").symlink_to("../other")
    plan = plan_translation(["in", "other"], "out", ".png")
    assert [file.source for file in plan.files] == ["in/c.png", "in/photo.dat", "in/scan", "other/d.png"]
    assert plan.left_out == {
        ".txt": 2,
        "hidden": 2,
        "link to a folder": 1,
        "broken link": 1,
        "neither file nor folder": 1,
    }


def test_files_given_by_name_may_have_any_extension(here: Path) -> None:
    touch("in/a.v2.jpg", "in/.hidden.png", "in/photo")
    assert list(planned("in/a.v2.jpg", "in/.hidden.png", "in/photo").values()) == [
        "out/a.v2.png",
        "out/.hidden.png",
        "out/photo.png",
    ]


def test_a_file_given_twice_is_translated_once(here: Path) -> None:
    touch("in/a.png")
    assert planned("in", "in/a.png", "./in/../in", str(here / "in")) == {"in/a.png": "out/a.png"}


@pytest.mark.parametrize("inputs", [("in",), ("in/a.jpg", "in/a.png"), ("in/a.png", "other"), ("other/a.gif", "in")])
def test_two_inputs_with_the_same_output_are_refused(here: Path, inputs: tuple[str, ...]) -> None:
    touch("in/a.png", "in/a.jpg", "other/a.gif")
    with pytest.raises(InvalidRequest, match=r"\S+/a\.\w+ and \S+/a\.\w+ would both become out/a\.png; rename one"):
        planned(*inputs)


@given(
    names=st.dictionaries(
        st.sampled_from("abc"), st.sets(st.sampled_from(sorted(picture_suffixes())), min_size=1, max_size=3), min_size=1
    )
)
def test_outputs_are_distinct_or_refused(names: dict[str, set[str]], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("in")
    paths = [folder / f"{stem}{suffix}" for stem, suffixes in names.items() for suffix in suffixes]
    for path in paths:
        path.touch()
    try:
        outputs = list(planned(str(folder)).values())
    except InvalidRequest:
        assert any(len(suffixes) > 1 for suffixes in names.values())
    else:
        assert len(set(outputs)) == len(outputs) == len(paths)


def test_names_that_differ_only_in_case_collide_if_the_file_system_ignores_case(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch("in/a.png", "in/A.jpg")
    assert len(planned("in")) == 2
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    with pytest.raises(InvalidRequest, match="would both become"):
        planned("in")


def test_the_output_folder_is_not_searched(here: Path) -> None:
    touch("in/a.png", "in/out/a.png", "in/out/deeper/b.png")
    assert planned("in", out="in/out") == {"in/a.png": "in/out/a.png"}


@pytest.mark.parametrize(("inputs", "out"), [(("in",), "in"), (("in/a.png",), "in"), (("in",), "link")])
def test_an_input_is_never_replaced_by_its_translation(here: Path, inputs: tuple[str, ...], out: str) -> None:
    touch("in/a.png")
    (here / "link").symlink_to("in")
    with pytest.raises(InvalidRequest, match=rf"{out}/a\.png is an input and would be replaced; name another --out"):
        planned(*inputs, out=out)


def test_an_output_may_be_in_the_folder_of_its_input(here: Path) -> None:
    touch("in/a.jpg")
    assert planned("in", out="in") == {"in/a.jpg": "in/a.png"}


def test_the_output_folder_itself_may_be_a_link(here: Path) -> None:
    touch("in/sub/a.png", "elsewhere/c.png")
    (here / "out").symlink_to("elsewhere")
    assert planned("in") == {"in/sub/a.png": "out/sub/a.png"}


def test_links_to_folders_are_not_followed_and_links_to_files_are(here: Path) -> None:
    touch("in/a.png", "other/b.png")
    (here / "in" / "loop").symlink_to(".")
    (here / "in" / "c.png").symlink_to("../other/b.png")
    assert set(planned("in").values()) == {"out/a.png", "out/c.png"}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere", "nowhere: neither a file nor a folder; check the name"),
        ("", "neither a file nor a folder"),
        ("empty", r"empty: holds no picture, by suffix or by content \(left out: 1 x \.txt\); name another folder"),
    ],
)
def test_inputs_without_a_picture_are_refused_by_name(here: Path, path: str, message: str) -> None:
    touch("empty/notes.txt", "in/a.png")
    with pytest.raises(InvalidRequest, match=message):
        planned("in", path)


def refuse_to_scan(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith(name):
            raise PermissionError(13, "Permission denied", path)  # root may read everywhere
        return scan(path)

    monkeypatch.setattr("os.scandir", refusing)


def test_folders_that_cannot_be_searched_are_listed_with_the_reason(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch("in/a.png", "in/secret/b.png")
    refuse_to_scan("secret", monkeypatch)
    plan = plan_translation(["in"], "out", ".png")
    assert [file.source for file in plan.files] == ["in/a.png"]
    assert plan.unreadable == [("in/secret", "Permission denied")]


def test_a_path_is_found_among_the_files_in_any_spelling(here: Path) -> None:
    touch("in/a.png")
    files = plan_translation(["in"], "out", ".png").files
    assert [is_among(path, files) for path in ("out/a.png", "./in/../in/a.png", "a.png", "out/b.png")] == [
        True,
        True,
        False,
        False,
    ]


def test_the_target_of_an_input_link_is_not_replaced(here: Path) -> None:
    touch("photos/a.png", "sel/b.png")
    (here / "sel" / "a.png").symlink_to("../photos/a.png")
    with pytest.raises(
        InvalidRequest, match=r"photos/a\.png is the target of the link sel/a\.png and would be replaced"
    ):
        planned("sel", out="photos")
    assert is_among("photos/a.png", plan_translation(["sel"], "out", ".png").files)


def test_an_input_link_is_not_replaced(here: Path) -> None:
    touch("photos/x.png")
    (here / "sel").mkdir()
    (here / "sel" / "a.png").symlink_to("../photos/x.png")
    with pytest.raises(InvalidRequest, match=r"sel/a\.png is an input"):
        planned("sel", out="sel")


def test_two_inputs_with_the_same_output_through_a_link_are_refused(here: Path) -> None:
    touch("in/left/a.png", "in/right/a.png", "out/left/other.png")
    (here / "out" / "right").symlink_to("left")
    with pytest.raises(InvalidRequest, match=r"in/left/a\.png and in/right/a\.png would both become out/right/a\.png"):
        planned("in")


def test_two_links_to_one_file_with_the_same_output_are_translated_once(here: Path) -> None:
    touch("photos/a.png")
    (here / "sel").mkdir()
    (here / "sel" / "a.png").symlink_to("../photos/a.png")
    assert planned("sel", "photos") == {"sel/a.png": "out/a.png"}
    (here / "sel" / "b.png").symlink_to("a.png")
    assert set(planned("sel").values()) == {"out/a.png", "out/b.png"}


def test_an_empty_folder_is_refused_even_if_another_one_cannot_be_searched(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch("in/a.png", "in/secret/b.png", "empty/notes.txt")
    refuse_to_scan("secret", monkeypatch)
    with pytest.raises(InvalidRequest, match=r"empty: holds no picture"):
        plan_translation(["in", "empty"], "out", ".png")
    plan = plan_translation(["in/secret", "in"], "out", ".png")
    assert [file.source for file in plan.files] == ["in/a.png"]


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
def test_png_and_jpeg_files_are_read_unchanged_with_any_name(tmp_path: Path, file_format: str) -> None:
    path = tmp_path / "a.bmp"
    Image.fromarray(PIXELS).save(path, file_format)
    assert read_picture(str(path)) == path.read_bytes()


@pytest.mark.parametrize("file_format", ["WEBP", "BMP", "TIFF", "GIF", "TGA", "PPM"])
def test_other_formats_become_png(tmp_path: Path, file_format: str) -> None:
    path = tmp_path / "a.png"
    image = Image.fromarray(PIXELS if file_format != "GIF" else PIXELS[..., 0])
    image.save(path, file_format, **({"lossless": True} if file_format == "WEBP" else {}))
    converted = Image.open(io.BytesIO(read_picture(str(path))), formats=("PNG",))
    np.testing.assert_array_equal(np.asarray(converted.convert(image.mode)), np.asarray(image))


def test_transparent_pixels_become_white(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    Image.new("RGBA", (2, 2), (0, 0, 0, 0)).save(path, lossless=True)
    assert Image.open(io.BytesIO(read_picture(str(path)))).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello", "is no picture, or in an unknown format; convert it to PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "unknown format"),  # Pillow would start another program for this
        (b"BM" + bytes(60), "cannot be decoded|unknown format"),
        (b"GIF89a" + bytes(20), "cannot be decoded|unknown format"),
    ],
)
def test_files_that_are_not_pictures_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(UnreadablePictureError, match=message) as raised:
        read_picture(str(path))
    assert " at 0x" not in str(raised.value)


def test_files_that_cannot_be_opened_are_refused(tmp_path: Path) -> None:
    for name, message in [
        ("nowhere.png", r"cannot be read \(No such file or directory\)"),
        ("a\0b.png", "cannot be read"),
        (".", r"cannot be read \(Is a directory\)"),
    ]:
        with pytest.raises(UnreadablePictureError, match=message):
            read_picture(f"{tmp_path}/{name}")


def test_a_file_too_large_for_a_request_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    monkeypatch.setattr(picture_files, "MAX_REQUEST_IMAGE_BYTES", path.stat().st_size)
    assert len(read_picture(str(path))) == path.stat().st_size
    monkeypatch.setattr(picture_files, "MAX_REQUEST_IMAGE_BYTES", path.stat().st_size - 1)
    with pytest.raises(UnreadablePictureError, match=r"is too large to send: .* MiB; make it smaller"):
        read_picture(str(path))


def test_decompression_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bmp"
    Image.fromarray(PIXELS).save(path)
    monkeypatch.setattr(picture_files, "MAX_PIXELS", 11)
    with pytest.raises(UnreadablePictureError, match="3x4 is too large"):
        read_picture(str(path))
