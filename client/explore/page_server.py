"""Serves the page to browsers on this machine, or with a token to others.

Refuses requests from other sites, and loads nothing from them.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from client.errors import InvalidRequest

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from client.explore.explorer import Explorer

HOST: Final = "127.0.0.1"
LOCAL_NAMES: Final = (HOST, "localhost", "[::1]")

_MAX_UPLOAD: Final = "256mb"  # a backstop: the Translate panel has a lower limit and a clear error
# Gradio's scripts are inline and compile templates; nothing is fetched from other hosts.
_POLICY: Final = (
    b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'none'; form-action 'self'"
)


class _OwnHostOnly:
    """Stops the browser from fetching from other hosts, and refuses requests from pages of other hosts.

    Gradio itself only hides its responses from such pages; it would accept their requests, including uploads.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"content-security-policy", _POLICY)]
            await send(message)

        if _is_foreign(scope):
            from starlette.responses import PlainTextResponse

            refusal = PlainTextResponse("the explorer refuses requests from other sites", status_code=403)
            await refusal(scope, receive, send_with_policy)
            return
        await self._app(scope, receive, send_with_policy)


def _is_foreign(scope: Scope) -> bool:
    """Whether a request comes from another page; browsers send Origin with all requests that may change something."""
    headers = dict(scope.get("headers", ()))
    origin, host = (headers.get(name, b"").decode("latin-1") for name in (b"origin", b"host"))
    return bool(origin) and origin.partition("://")[2] != host


@dataclass(frozen=True)
class Exposure:
    """Who can open the page.

    Attributes:
        host: The address to listen on.
        allowed_hosts: Further host names by which browsers may reach the page, through a tunnel or proxy.
        root_path: The path under which a proxy serves the page; empty for none.
        token: What visitors must know; empty if every visitor is on this machine.
    """

    host: str = HOST
    allowed_hosts: tuple[str, ...] = ()
    root_path: str = ""
    token: str = ""

    @property
    def hosts(self) -> list[str]:
        """The host names that requests may be for; all if it listens on every address, where the token protects it."""
        if self.host in ("0.0.0.0", "::"):  # noqa: S104  (a comparison, not a bind)
            return ["*"]
        own = f"[{self.host}]" if ":" in self.host else self.host
        return [*LOCAL_NAMES, own, *self.allowed_hosts]


_LOCAL: Final = Exposure()


def needs_token(host: str, allowed_hosts: Sequence[str]) -> bool:
    """Whether people on other machines may reach the page: it listens beyond loopback, or has another name."""
    try:
        is_local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_local = host == "localhost"
    return not is_local or any(name not in LOCAL_NAMES for name in allowed_hosts)


def listening_socket(port: int, host: str = HOST) -> socket.socket:
    """A socket bound to a port; port 0 picks a free one.

    Raises:
        InvalidRequest: The port is in use, not permitted, or the address is not one of this machine.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise InvalidRequest(
            f"--host: {host} is not known ({error.strerror}); name an address of this machine"
        ) from error
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(place)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise InvalidRequest(f"--host: {host} is not an address of this machine; name one, or 0.0.0.0") from error
        raise InvalidRequest(
            f"--port: {port} cannot be used ({error.strerror}); name another, or 0 for a free one"
        ) from error
    return sock


def page_server(explorer: Explorer, ready: Callable[[], object], exposure: Exposure = _LOCAL) -> uvicorn.Server:
    """The server of the page; start it with `run(sockets=[...])`.

    Args:
        explorer: Passed to the page.
        ready: Called when the page can be opened.
        exposure: Who can open it.

    Raises:
        InvalidRequest: Gradio is not installed.
    """
    try:
        import fastapi
        import gradio as gr
        import uvicorn
        from starlette.middleware.trustedhost import TrustedHostMiddleware
    except ImportError as error:
        raise InvalidRequest(
            "the explorer needs Gradio, which is not installed: pip install '.[explore]' in a checkout"
        ) from error
    from client.explore.app import Page
    from client.explore.login import Login

    # Turns off Gradio's queue statistics, which it would compute after this number of events.
    os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(2**62))

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                ready()

    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    if exposure.token:
        app.add_middleware(Login, token=exposure.token, root_path=exposure.root_path)
    app.add_middleware(_OwnHostOnly)
    # Against DNS rebinding: another site that resolves to this machine still sends its own Host header.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=exposure.hosts, www_redirect=False)
    folder = Path(__file__).parent
    gr.mount_gradio_app(
        app,
        Page(explorer).blocks,
        path="/",
        root_path=exposure.root_path or None,
        server_name=exposure.host,
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=_MAX_UPLOAD,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css=(folder / "page.css").read_text(),
        head=f"<script>{(folder / 'page.js').read_text()}</script>",
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # "critical": on Ctrl-C, uvicorn would log a traceback for each page that is still open.
    config = uvicorn.Config(app, log_level="critical", access_log=False, timeout_graceful_shutdown=1)
    return Server(config)
