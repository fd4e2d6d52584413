"""A headless Chromium for all tests of this folder, and the explorer in this process."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from client import GanClient
from client.explore.commands_text import Commands
from client.explore.explorer import Explorer
from client.explore.page_server import HOST, Exposure, listening_socket, page_server
from client.explore.watch import Watch

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_MS = 20_000

OpenPage = Callable[[str], "Page"]


@pytest.fixture(scope="package")
def browser() -> Iterator[BrowserContext]:
    """A browser window of 1280x800, whose pages share a cache."""
    if CHROMIUM is None:
        message = "NO BROWSER: the explorer was not tried in one; apt-get install chromium"
        if os.environ.get("GANSERVE_REQUIRE_BROWSER"):
            pytest.fail(message)
        pytest.skip(message)
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="NO PLAYWRIGHT: the explorer was not tried in a browser"
    )
    pytest.importorskip("gradio", reason="NO GRADIO: the explorer was not tried in a browser")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = started.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
        context.set_default_timeout(WAIT_MS)
        yield context
        started.close()


@contextmanager
def explorer_of(address: str, max_age_s: float = 0.2, exposure: Exposure | None = None) -> Iterator[str]:
    """The explorer of a server, in a thread of this process; yields the page's address.

    Close pages before the block ends: they show an error once the explorer is gone.
    """
    ready = threading.Event()
    with (
        listening_socket(0) as sock,
        GanClient(address, timeout_s=10) as client,
        GanClient(address, timeout_s=3) as checking,
    ):
        commands = Commands(("--address", address))
        watch = Watch(checking, max_age_s=max_age_s, start_command=commands.start_server())
        server = page_server(Explorer(client, watch, commands), ready.set, exposure or Exposure())
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            assert ready.wait(60)
            yield f"http://{HOST}:{sock.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(30)


@pytest.fixture
def open_page(browser: BrowserContext) -> Iterator[OpenPage]:
    """Opens pages; then checks that none contacted another host, raised or showed a toast."""
    requests: list[str] = []
    faults: list[str] = []
    pages: list[Page] = []

    def open_one(url: str) -> Page:
        page = browser.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.goto(url)
        pages.append(page)
        return page

    yield open_one
    still_open = [page for page in pages if not page.is_closed()]
    toasts = [page.locator(".toast-body").count() for page in still_open]
    for page in still_open:
        page.close()
    foreign = [url for url in requests if not url.startswith((f"http://{HOST}:", "data:", "blob:"))]
    assert requests
    assert (foreign, faults, sum(toasts)) == ([], [], 0)
