"""The explorer while the server stops, returns and serves other models."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from client.explore import app
from tests.browser.conftest import OpenPage, explorer_of
from tests.client.fake_server import FakeServer, model

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture(autouse=True)
def _pages_that_ask_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_CHECK_EVERY_S", 0.25)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def close(page: Page) -> None:
    assert page.locator("#banner .banner, .toast-body").count() == 0
    page.close()


def test_an_outage_shows_a_banner_until_the_server_returns(browser: object, open_page: OpenPage) -> None:
    fake = FakeServer()
    fake.models = [model("alpha", latent_dim=8)]
    address = f"127.0.0.1:{free_port()}"
    with explorer_of(address) as url:
        page = open_page(url)
        gone = page.locator("#server-banner .banner", has_text=f"python -m server --models models --address {address}")
        gone.wait_for()  # there never was one
        with fake.serve(address):
            gone.wait_for(state="detached")
            page.wait_for_selector("#picture img")  # without a click
            page.get_by_text("Single dimensions of the latent").click()
            page.locator("#dimension-1 input[type=number]").wait_for()
        gone.wait_for()
        before = page.locator("#picture img").get_attribute("src")
        page.wait_for_function("document.querySelector('#tabs').inert")
        with page.expect_response(lambda response: "predict" in response.url):  # begun before the outage was noticed
            page.locator("#dimension-1 input[type=number]").evaluate(
                "input => { input.value = '3'; input.dispatchEvent(new Event('input', {bubbles: true})); }"
            )
        assert page.locator("#picture img").get_attribute("src") == before
        with fake.serve(address):
            gone.wait_for(state="detached")
            # The slider was moved during the outage; the picture follows without a click.
            page.wait_for_function("src => document.querySelector('#picture img').src !== src", arg=before)
        close(page)


def test_a_model_picked_during_an_outage_is_shown_after_it(browser: object, open_page: OpenPage) -> None:
    fake = FakeServer()
    fake.models = [model("alpha", version=1, latent_dim=8), model("beta", version=1, latent_dim=6)]
    address = f"127.0.0.1:{free_port()}"
    with explorer_of(address) as url:
        page = open_page(url)
        gone = page.locator("#server-banner .banner", has_text="The server does not answer")
        with fake.serve(address):
            page.locator("#picture code", has_text="--model alpha").wait_for()
        gone.wait_for()
        page.click("#model input")
        page.get_by_role("option", name="beta:1").click()
        with fake.serve(address):
            page.locator("#picture code", has_text="--model beta").wait_for()
            page.locator("#about", has_text="latents of 6 numbers").wait_for()
            assert page.locator("#samples code", has_text="--model beta").count() == 1
        close(page)


def test_unloaded_and_new_models_are_noticed(browser: object, open_page: OpenPage) -> None:
    fake = FakeServer()
    fake.models = [model(version=1, latent_dim=100)]
    with ExitStack() as stack:
        stack.enter_context(fake.serve())
        page = open_page(stack.enter_context(explorer_of(fake.address)))
        page.wait_for_selector("#picture img")
        fake.models = [model(version=2, latent_dim=100)]
        gone = page.locator(
            "#server-banner .banner", has_text="dcgan:1 is no longer served; pick another model: dcgan:2"
        )
        gone.wait_for()
        page.click("#sample")
        page.locator("#banner .banner", has_text="dcgan:1 is no longer served").wait_for()
        page.click("#model input")
        page.get_by_role("option", name="dcgan:2").click()
        gone.wait_for(state="detached")
        page.locator("#picture code", has_text="--version 2").wait_for()
        assert page.locator("#banner .banner").count() == 0
        fake.models = []
        page.locator("#server-banner .banner", has_text="dcgan:2 is no longer served, and the server has").wait_for()
        close(page)


def test_a_model_name_with_markup_is_shown_as_text(browser: object, open_page: OpenPage) -> None:
    name = "<b onclick=x>${window.hacked=1}{{value}}"
    fake = FakeServer()
    fake.models = [model(name, version=1, latent_dim=100, dataset="<img src=x onerror=window.hacked=1>")]
    with fake.serve(), explorer_of(fake.address) as url:
        page = open_page(url)
        page.wait_for_selector("#picture img")
        assert name in page.locator("#picture code").inner_text()
        assert "onerror" in page.locator("#about").inner_text()
        assert page.evaluate("window.hacked") is None
        close(page)


def test_refresh_asks_the_server_at_once(browser: object, open_page: OpenPage) -> None:
    fake = FakeServer()
    with fake.serve(), explorer_of(fake.address, max_age_s=1000) as url:
        page = open_page(url)
        page.wait_for_selector("#picture img")
        before = fake.list_calls
        fake.models.append(model("newer", 1))
        page.click("#refresh")
        page.click("#model input")
        page.get_by_role("option", name="newer:1").wait_for()
        assert fake.list_calls == before + 1
        close(page)
