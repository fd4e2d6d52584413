"""Asks visitors from other machines for a token, once per browser: in the address, or in a form."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

PARAMETER: Final = "token"

_COOKIE: Final = "ganserve_explorer"
_KEPT_S: Final = 30 * 24 * 3600
_PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8"><title>ganserve explorer</title>
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<body style="font-family: system-ui, sans-serif; max-width: 26rem; margin: 15vh auto; padding: 0 1rem">
<h1 style="font-size: 1.4rem">ganserve explorer</h1>
<p>{complaint}Enter the token that <code>ganclient explore</code> printed when it started.</p>
<form method="get"><input type="password" name="token" aria-label="token" autofocus required>
<button>Open</button></form>
"""


class Login:
    """ASGI middleware that answers only requests that carry the token.

    The token in an address is moved to a cookie at once, so that it does not stay in the address bar or in links.

    Args:
        app: The application behind it.
        token: What visitors must know.
        root_path: The path under which a proxy serves the page.
    """

    def __init__(self, app: ASGIApp, token: str, root_path: str = "") -> None:
        self._app = app
        self._token = token
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers it."""
        if scope["type"] not in ("http", "websocket") or self._is_known(Request({**scope, "type": "http"})):
            await self._app(scope, receive, send)
            return
        await self._answer(Request({**scope, "type": "http"}))(scope, receive, send)

    def _is_known(self, request: Request) -> bool:
        return PARAMETER not in request.query_params and self._is_token(request.cookies.get(_COOKIE, ""))

    def _answer(self, request: Request) -> Response:
        given = request.query_params.get(PARAMETER)
        if given is not None and self._is_token(given):
            rest = [(name, value) for name, value in parse_qsl(request.url.query) if name != PARAMETER]
            answer = RedirectResponse(f"{self._root_path}/?{urlencode(rest)}" if rest else f"{self._root_path}/", 303)
            answer.set_cookie(
                _COOKIE, self._token, max_age=_KEPT_S, path=self._root_path or "/", httponly=True, samesite="lax"
            )
            return answer
        if "text/html" not in request.headers.get("accept", ""):
            return PlainTextResponse("the explorer needs its token", status_code=401)
        complaint = "" if given is None else "This is not the token. "
        return HTMLResponse(_PAGE.format(complaint=complaint), status_code=401)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode())
