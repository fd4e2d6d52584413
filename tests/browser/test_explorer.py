"""The explorer in a real browser, against ganserve's own server with tiny models whose images are known."""

from __future__ import annotations

import base64
import io
import shlex
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from client.__main__ import cli
from client.explore.explorer import Explorer
from client.sdk.model_info import ModelInfo
from client.sdk.walks import spherical
from ganserve.grids import image_grid
from ganserve.latents import latents_from_seed
from ganserve.traversal import spread_dimensions
from tests.browser.conftest import WAIT_MS, OpenPage, explorer_of
from tests.end_to_end.conftest import running_server
from tests.server.tiny_bundles import publish_tiny_bundle, publish_tiny_translator, tiny_pixels, tiny_translation

if TYPE_CHECKING:
    from playwright.sync_api import Download, Locator, Page

DIM = 8
SHAPE = (1, 16, 16)
PICTURE = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def url(browser: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    models = tmp_path_factory.mktemp("models")
    publish_tiny_bundle(models, "alpha", latent_dim=DIM, shape=SHAPE)
    publish_tiny_bundle(models, "beta", latent_dim=DIM, shape=SHAPE, seed=1)
    publish_tiny_translator(models, "z-a2b", shape=(3, 12, 10))
    with running_server(models) as server, explorer_of(server.address) as address:
        yield address


@pytest.fixture
def page(url: str, open_page: OpenPage) -> Page:
    opened = open_page(url)
    opened.wait_for_selector("#picture img")
    return opened


def pixels_in(figure: Locator) -> NDArray[np.uint8]:
    """The pixels (height, width[, channels]) of the first picture in an element."""
    source = figure.locator("img").first.get_attribute("src")
    assert source is not None
    return decoded(base64.b64decode(source.partition("base64,")[2]))


def decoded(file: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(image)


def wait_for_picture(page: Page, selector: str, expected: NDArray[np.uint8]) -> None:
    """Waits until an element shows these pixels."""
    for _ in range(WAIT_MS // 50):
        figure = page.locator(selector)
        if figure.locator("img").count() and np.array_equal(pixels_in(figure), expected):
            return
        page.wait_for_timeout(25)
    shown, banners = (page.locator(name).all_inner_texts() for name in ("code", ".banner"))
    pytest.fail(f"{selector} never showed what was expected; the page shows {shown}, and says {banners}")


def tiny(latents: NDArray[np.float32], seed: int = 0) -> NDArray[np.uint8]:
    """The pixels (rows, height, width) of alpha, or of beta with a seed of 1."""
    pixels: NDArray[np.uint8] = tiny_pixels(latents, seed, SHAPE)[..., 0]
    return pixels


def set_slider(page: Page, name: str, value: float) -> None:
    page.locator(f"#{name} input[type=range]").evaluate(
        "(input, value) => { input.value = value; input.dispatchEvent(new Event('input', {bubbles: true})); }",
        str(value),
    )


def field(page: Page, name: str) -> Locator:
    return page.locator(f"#{name} input, #{name} textarea").first


def fill(page: Page, name: str, text: str) -> None:
    """Fills a field until the value stays; see `settle`."""
    for _ in range(WAIT_MS // 200):
        field(page, name).fill(text)
        settle(page)
        if field(page, name).input_value() == text:
            return
    pytest.fail(f"{name} does not stay at {text!r}")


def banner(page: Page, which: str = "banner") -> Locator:
    return page.locator(f"#{which} .banner")


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()
    settle(page)


def open_dimensions(page: Page) -> None:
    page.get_by_text("Single dimensions of the latent").click()
    page.locator("#dimension-1 input[type=range]").wait_for()


def settle(page: Page) -> None:
    """Waits until the browser is idle: shortly after a tab opens, Gradio sets its fields again."""
    page.evaluate("() => new Promise(done => requestIdleCallback(() => setTimeout(done, 100)))")


def saved(page: Page, within: str, extension: str, folder: Path) -> Path:
    """Downloads a shown file under the name that the page gives it."""
    with page.expect_download() as waiting:
        page.locator(f"{within} button[data-save$='{extension}']").first.click()
    download: Download = waiting.value
    path = folder / download.suggested_filename
    download.save_as(path)
    return path


def remade(page: Page, within: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> NDArray[np.uint8]:
    """Downloads the latents and the picture, runs the shown command, and returns its output."""
    monkeypatch.chdir(folder)
    if page.locator(f"{within} button[data-save$='.npy']").count():
        saved(page, within, ".npy", folder)
    shown = saved(page, within, ".png", folder).read_bytes()
    words = shlex.split(page.locator(f"{within} code").first.inner_text())
    Path(words[words.index("--out") + 1]).unlink(missing_ok=True)
    result = CliRunner().invoke(cli, words[1:])
    assert (words[0], result.exit_code) == ("ganclient", 0), result.output
    made = Path(words[words.index("--out") + 1])
    pixels = decoded(made.read_bytes() if made.is_file() else next(made.iterdir()).read_bytes())
    np.testing.assert_array_equal(pixels, decoded(shown))
    return pixels


def test_samples_and_sliders_show_images_and_commands(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = latents_from_seed(0, 36, DIM)
    assert page.locator("#samples button[data-row]").count() == 36
    wait_for_picture(page, "#picture", tiny(samples)[0])
    page.click("#samples button[data-row='5']")
    wait_for_picture(page, "#picture", tiny(samples)[5])
    open_dimensions(page)
    fill(page, "dimensions", "2, 6")
    field(page, "dimensions").press("Enter")
    page.get_by_text("dimension 6", exact=True).wait_for()
    set_slider(page, "dimension-2", 2.5)
    moved = samples[5].copy()
    moved[6] = 2.5
    wait_for_picture(page, "#picture", tiny(moved[np.newaxis])[0])
    np.testing.assert_array_equal(remade(page, "#picture", monkeypatch, tmp_path), tiny(moved[np.newaxis])[0])
    assert np.array_equal(np.load(tmp_path / "alpha-1-picture.npy"), moved[np.newaxis])
    grid = remade(page, "#samples", monkeypatch, tmp_path)
    np.testing.assert_array_equal(grid, np.asarray(image_grid(tiny(samples)[..., np.newaxis], 6)))
    page.click("#reset")
    wait_for_picture(page, "#picture", tiny(samples)[5])


def test_directions_are_found_and_their_sliders_work(page: Page) -> None:
    page.locator("#direction-1 input[type=range]").wait_for()
    before = pixels_in(page.locator("#picture")).astype(int)
    source = page.locator("#picture img").get_attribute("src")
    set_slider(page, "direction-1", 4)
    page.wait_for_function("src => document.querySelector('#picture img').src !== src", arg=source)
    assert pixels_in(page.locator("#picture")).astype(int).sum() > before.sum()  # to the right is brighter


def test_the_address_of_the_page_is_a_link_to_what_it_shows(page: Page, open_page: OpenPage) -> None:
    samples = latents_from_seed(0, 36, DIM)
    page.click("#samples button[data-row='5']")
    wait_for_picture(page, "#picture", tiny(samples)[5])
    open_dimensions(page)
    set_slider(page, "dimension-1", 2.5)
    page.locator("#direction-1 input[type=range]").wait_for()
    set_slider(page, "direction-1", -1.5)
    page.wait_for_url("**/?model=alpha:1&seed=0&sample=5&z*=2.5&d1=-1.5")
    shown = pixels_in(page.locator("#picture"))
    again = open_page(page.url)
    again.wait_for_selector("#picture img")
    wait_for_picture(again, "#picture", shown)
    assert again.locator("#direction-1 input[type=number]").input_value() == "-1.5"


def test_a_link_to_another_tab_opens_and_fills_it(url: str, open_page: OpenPage) -> None:
    for name, element in (("morph", "#morph img"), ("traversal", "#sheet img"), ("compare", "#pair img")):
        opened = open_page(f"{url}?model=beta:1&seed=3&tab={name}")
        opened.wait_for_selector(element)
        assert opened.locator("#seed input, #seed textarea").first.input_value() == "3"


@pytest.mark.parametrize("width", [1440, 390])
def test_all_tabs_are_visible_and_equally_wide(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    widths = set()
    for name in ("Explore", "Morph", "Traversal", "Compare"):
        open_tab(page, name)
        widths.add(page.evaluate("document.querySelector('#tabs').getBoundingClientRect().width"))
    assert len(widths) == 1
    assert page.get_by_label("More tabs").count() == 0 or not page.get_by_label("More tabs").is_visible()
    assert not page.get_by_role("tab", name="Translate").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_sliders_and_picture_are_on_one_screen_of_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator("#direction-6 input[type=range]").wait_for()
    page.locator("#direction-1").evaluate("slider => slider.scrollIntoView({block: 'center'})")
    for element in ("#picture img", "#direction-1", "#direction-6"):
        box = page.locator(element).bounding_box()
        assert box is not None
        assert 0 <= box["y"] <= 844 - box["height"]


def test_a_morph_goes_from_a_to_b(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = latents_from_seed(0, 36, DIM)
    page.click("#samples button[data-row='3']")
    wait_for_picture(page, "#picture", tiny(samples)[3])
    page.click("#keep-b")
    open_tab(page, "Morph")
    wait_for_picture(page, "#morph", tiny(spherical(samples[0], samples[3], [0.5]))[0])
    for fraction in (1, 0, 0.3):
        expected = tiny(spherical(samples[0], samples[3], [fraction]))[0]
        set_slider(page, "fraction", fraction)
        wait_for_picture(page, "#morph", expected)
    remade(page, "#morph", monkeypatch, tmp_path)
    page.click("#make-strip")
    page.locator("#strip img").wait_for()
    strip = remade(page, "#strip", monkeypatch, tmp_path)
    np.testing.assert_array_equal(strip[2:18, 2:18], tiny(samples)[0])
    np.testing.assert_array_equal(strip[2:18, -18:-2], tiny(samples)[3])


def test_the_picture_of_the_last_slider_position_stays(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = latents_from_seed(0, 2, DIM)
    middle = spherical(samples[0], samples[1], [0.5])
    asked, overtaken, may_answer = threading.Event(), threading.Event(), threading.Event()
    files = Explorer.files

    def slow_files(explorer: Explorer, model: ModelInfo, latents: NDArray[np.float32]) -> list[bytes]:
        if np.array_equal(latents, middle):
            asked.set()
            assert may_answer.wait(20)
        elif len(latents) == 1 and asked.is_set():
            overtaken.set()
        return files(explorer, model, latents)

    monkeypatch.setattr(Explorer, "files", slow_files)
    open_tab(page, "Morph")
    assert asked.wait(20)
    set_slider(page, "fraction", 1)
    overtaken.wait(1)  # it is not overtaken, but has had the time
    may_answer.set()
    wait_for_picture(page, "#morph", tiny(samples)[1])
    page.wait_for_timeout(300)  # time for an older picture to arrive
    wait_for_picture(page, "#morph", tiny(samples)[1])


def test_a_traversal_sheet_equals_that_of_the_command(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_tab(page, "Traversal")
    page.locator("#sheet code").wait_for()  # drawn at once
    fill(page, "sheet-dimensions", "1, 7")
    fill(page, "sheet-count", "3")
    field(page, "sheet-count").blur()
    page.click("#make-sheet")
    page.locator("#sheet code", has_text="--dims=1,7").wait_for()
    sheet = remade(page, "#sheet", monkeypatch, tmp_path)
    first = latents_from_seed(0, 3, DIM)[2:].copy()
    first[0, 1] = -3
    np.testing.assert_array_equal(sheet[2:18, -18:-2], tiny(first)[0])


def test_two_models_are_compared_at_one_seed(page: Page) -> None:
    open_tab(page, "Compare")
    page.locator("#pair section:nth-child(2) img").wait_for()  # drawn at once
    fill(page, "compare-seed", "7")
    fill(page, "compare-count", "4")
    page.click("#compare")
    for index, seed in ((1, 0), (2, 1)):
        expected = image_grid(tiny(latents_from_seed(7, 4, DIM), seed)[..., np.newaxis], 2)
        wait_for_picture(page, f"#pair section:nth-child({index})", np.asarray(expected))


def test_a_picture_is_translated_and_another_file_shows_a_banner(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.click("#model input")
    page.get_by_role("option", name="z-a2b:1").click()
    Image.fromarray(PICTURE).save(tmp_path / "a picture.png")
    upload = page.locator("#picture-file input[type=file]")
    upload.set_input_files(tmp_path / "a picture.png")
    wait_for_picture(page, "#translation figure:nth-child(2)", tiny_translation(PICTURE))
    remade(page, "#translation figure:nth-child(2)", monkeypatch, tmp_path)
    (tmp_path / "no.png").write_bytes(b"\x89PNG")
    page.click("#picture-file button[aria-label='Clear']")
    upload.set_input_files(tmp_path / "no.png")
    banner(page).wait_for()
    assert banner(page).inner_text().startswith("no.png: cannot be read")


def test_mistakes_show_banners_that_disappear(page: Page) -> None:
    for name, text, complaint in (
        ("seed", "x", "seed: must be a whole number in 0 .. 18446744073709551615, not 'x'"),
        ("seed", "-1", "seed: must be a whole number in 0 .. 18446744073709551615, not '-1'"),
        ("count", "1000", "samples: must be a whole number in 1 .. 144, not '1000'"),
        ("count", "", "samples: must be a whole number in 1 .. 144, not ''"),
    ):
        fill(page, name, text)
        page.click("#sample")
        page.locator("#banner .banner", has_text=complaint).wait_for()
        fill(page, name, "9")
    page.click("#sample")
    banner(page).wait_for(state="detached")
    open_dimensions(page)
    page.locator("#dimension-1 input[type=number]").fill("5000")
    page.locator("#banner .banner", has_text="must be a number in -1000 .. 1000").wait_for()
    page.locator("#dimension-1 input[type=number]").fill("77")  # beyond the slider, but valid
    banner(page).wait_for(state="detached")


def test_two_tabs_do_not_disturb_each_other(page: Page, url: str, open_page: OpenPage) -> None:
    other = open_page(url)
    other.wait_for_selector("#picture img")
    samples = latents_from_seed(0, 36, DIM)
    page.click("#samples button[data-row='1']")
    other.click("#samples button[data-row='2']")
    wait_for_picture(page, "#picture", tiny(samples)[1])
    wait_for_picture(other, "#picture", tiny(samples)[2])
    open_dimensions(page)
    set_slider(page, "dimension-1", 3)
    moved = samples[1:2].copy()
    moved[0, spread_dimensions(DIM, 5)[0]] = 3
    wait_for_picture(page, "#picture", tiny(moved)[0])
    np.testing.assert_array_equal(pixels_in(other.locator("#picture")), tiny(samples)[2])
    other.click("#samples button[data-row='4']")
    wait_for_picture(other, "#picture", tiny(samples)[4])
    np.testing.assert_array_equal(pixels_in(page.locator("#picture")), tiny(moved)[0])
