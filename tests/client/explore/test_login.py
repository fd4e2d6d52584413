from __future__ import annotations

import pytest

pytest.importorskip("starlette", reason="NO STARLETTE: the login of the explorer was not tried")

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from client.explore.login import Login

PAGE = {"accept": "text/html"}


@pytest.fixture
def browser() -> TestClient:
    def show(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"secret {request.url.query}")

    app = Starlette(routes=[Route("/", show), Route("/config", show)])
    return TestClient(Login(app, "a token"), follow_redirects=False)


@pytest.mark.parametrize("path", ["/", "/config", "/?token=", "/?token=other", "/?token=%C3%A9"])
def test_nothing_is_shown_without_the_token(browser: TestClient, path: str) -> None:
    answer = browser.get(path)
    assert (answer.status_code, answer.text) == (401, "the explorer needs its token")
    assert "set-cookie" not in answer.headers


def test_a_browser_without_the_token_gets_a_form(browser: TestClient) -> None:
    answer = browser.get("/", headers=PAGE)
    assert answer.status_code == 401
    assert 'name="token"' in answer.text
    assert "This is not the token" not in answer.text
    assert "This is not the token" in browser.get("/?token=other", headers=PAGE).text


def test_the_token_is_moved_from_the_address_to_a_cookie(browser: TestClient) -> None:
    answer = browser.get("/?token=a+token&model=dcgan:3&seed=5")
    assert (answer.status_code, answer.headers["location"]) == (303, "/?model=dcgan%3A3&seed=5")
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert browser.get("/config").text == "secret "
    browser.cookies.clear()
    assert browser.get("/config").status_code == 401


def test_under_a_root_path_the_cookie_and_the_page_are_below_it() -> None:
    app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("secret"))])
    answer = TestClient(Login(app, "t", "/explorer"), follow_redirects=False).get("/?token=t")
    assert answer.headers["location"] == "/explorer/"
    assert "Path=/explorer;" in answer.headers["set-cookie"]
