"""Remote repositories for tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ganserve.bundle import list_models, list_versions


class _Quiet(SimpleHTTPRequestHandler):
    index_pages = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        pass

    def list_directory(self, path: Any) -> Any:
        if self.index_pages:
            return super().list_directory(path)
        self.send_error(403)
        return None


class _WithoutIndexPages(_Quiet):
    index_pages = False


@contextmanager
def web_server(folder: Path, *, index_pages: bool = True) -> Iterator[str]:
    """Serves a folder over HTTP; yields its URL."""
    handler = partial(_Quiet if index_pages else _WithoutIndexPages, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def content(repository: Path) -> dict[str, bytes]:
    """Every file of a repository, hidden ones too, by its path."""
    return {str(path.relative_to(repository)): path.read_bytes() for path in repository.rglob("*") if path.is_file()}


def labels(repository: Path) -> list[str]:
    """The versions in a repository, as in "tiny:1"."""
    return [f"{name}:{version}" for name in list_models(repository) for version in list_versions(repository, name)]
