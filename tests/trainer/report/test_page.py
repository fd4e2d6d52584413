from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from trainer.report import page as pages
from trainer.report.page import (
    Detail,
    Page,
    Picture,
    Strip,
    Table,
    TableCell,
    picture_of_file,
    picture_of_svg,
    render,
    write_page,
)

EVIL = '"><script>alert(1)</script>'
ESCAPED = "&#34;&gt;&lt;script&gt;alert(1)&lt;/script&gt;"


def shown(picture: Picture) -> Image.Image:
    assert picture.uri.startswith("data:image/png;base64,")
    return Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2])))


def saved(path: Path, size: tuple[int, int], file_format: str = "PNG") -> Path:
    Image.new("RGB", size, (10, 20, 30)).save(path, file_format)
    return path


def test_a_picture_is_encoded_again_and_shrunk_to_fit(tmp_path: Path) -> None:
    small = picture_of_file(saved(tmp_path / "small.png", (3, 2)), "small")
    assert (small.caption, small.missing, small.is_pixels) == ("small", "", True)
    assert (shown(small).size, shown(small).getpixel((0, 0))) == ((3, 2), (10, 20, 30))
    assert shown(picture_of_file(saved(tmp_path / "large.png", (80, 20)), "large", side=40)).size == (40, 10)


def test_what_follows_the_pixels_in_a_file_does_not_reach_the_page(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", (3, 2))
    path.write_bytes(path.read_bytes() + b"<script>")
    assert b"<script>" not in base64.b64decode(picture_of_file(path, "a").uri.partition(",")[2])


def test_a_picture_that_cannot_be_shown_leaves_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    for path, note in (
        (None, "not reached"),
        (tmp_path / "gone.png", "gone.png is missing"),
        (broken, "broken.png is unreadable ("),
        (tmp_path, f"{tmp_path.name} is unreadable ("),  # a folder
        (saved(tmp_path / "other.png", (3, 2), "GIF"), "other.png is unreadable ("),
    ):
        picture = picture_of_file(path, "a caption")
        assert (picture.caption, picture.uri) == ("a caption", "")
        assert picture.missing.startswith(note)
    monkeypatch.setattr(pages, "MAX_PICTURE_PIXELS", 5)
    assert "is unreadable" in picture_of_file(saved(tmp_path / "a.png", (3, 2)), "a").missing
    monkeypatch.setattr(pages, "MAX_PICTURE_BYTES", 9)
    assert picture_of_file(tmp_path / "a.png", "a").missing == "a.png is too large"


def test_a_page_has_every_text_that_it_is_given_escaped() -> None:
    texts = (f"{index}{EVIL}" for index in range(100))
    table = Table(next(texts), [next(texts)], [[TableCell(next(texts), is_best=True, is_number=True)]], next(texts))
    picture, missing = Picture(next(texts), next(texts)), Picture(next(texts), missing=next(texts))
    strip = Strip(next(texts), [picture, missing], next(texts))
    detail = Detail(
        title=next(texts),
        lines=[next(texts)],
        warnings=[next(texts)],
        pictures=[Picture(next(texts), missing=next(texts))],
        settings=[(next(texts), next(texts))],
        commands=[(next(texts), next(texts))],
        tables=[Table("not shown", [next(texts)], [])],
    )
    page = Page(next(texts), [next(texts)], next(texts), [table], [strip], [strip], [detail])
    html = render(page)
    assert "<script" not in html
    count = int(next(texts).removesuffix(EVIL))
    assert [index for index in range(count) if f"{index}{ESCAPED}" not in html] == []
    assert 'class="number best"' in html


def test_a_chart_of_ours_is_embedded() -> None:
    picture = picture_of_svg(b"<svg/>", "a chart")
    assert picture == Picture("a chart", "data:image/svg+xml;base64," + base64.b64encode(b"<svg/>").decode())


def test_a_page_of_names_that_are_no_unicode_can_be_written(tmp_path: Path) -> None:
    write_page(Page("run \udcff", ["lead"]), tmp_path / "page.html")
    assert "run \\udcff" in (tmp_path / "page.html").read_text()
