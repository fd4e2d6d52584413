"""What `python -m server fetch` and `python -m server --models URL` do."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shlex
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.filesize import decimal

from ganserve.bundle import BundleError, list_models
from ganserve.wording import counted
from server.errors import StartupError
from server.remote.errors import RemoteError, RemoteUnavailable
from server.remote.fetch import Fetcher, Outcome
from server.remote.follower import Follower
from server.remote.progress import FetchProgress
from server.remote.repository import RemoteRepository

_log = logging.getLogger(__name__)
_ODD: Final = re.compile(r"[^A-Za-z0-9._-]+")


def fetch(url: str, folder: Path, names: Sequence[str], say: Callable[[str], None]) -> None:
    """Fetches once, with a progress bar, and prints what was fetched and what to do next.

    Args:
        url: Of the remote repository.
        folder: The local repository.
        names: Of the models; empty for all.
        say: Prints a line.

    Raises:
        StartupError: Nothing, or not everything, could be fetched.
    """
    try:
        with _sigterm_like_sigint(), FetchProgress() as bar:
            outcome = Fetcher(RemoteRepository(url), folder, names, bar.show).fetch()
    except RemoteError as error:
        raise StartupError(str(error)) from error
    for version, size_bytes in outcome.fetched.items():
        say(f"{version}: {decimal(size_bytes)}")
    for name in outcome.settings:
        say(f"{name}: config.pbtxt")
    for path in outcome.unfinished:
        say(f"{path}: has no card.json yet; fetch it once it is uploaded")
    say(_summary(outcome, folder))
    if outcome.problems:
        raise StartupError("\nError: ".join(outcome.problems))


def _summary(outcome: Outcome, folder: Path) -> str:
    counts = f"{counted(len(outcome.fetched), 'version')} fetched, {len(outcome.present)} there already"
    if not outcome.fetched and not outcome.present:
        return counts
    return f"{counts}; serve with: python -m server --models {shlex.quote(str(folder))}"


def follow(url: str, folder: Path, names: Sequence[str], every_s: float) -> None:
    """Fetches every `every_s` seconds until SIGTERM or SIGINT; logs what happens.

    Raises:
        StartupError: The URL, or a name, can never work.
    """
    try:
        with _sigterm_like_sigint():
            remote = RemoteRepository(url)
            follower = Follower(Fetcher(remote, folder, names), remote.url, every_s)
            _log.info("fetching from %s into %s every %g s", remote.url, folder, every_s)
            follower.run(threading.Event())
    except RemoteError as error:
        raise StartupError(str(error)) from error
    except KeyboardInterrupt:
        _log.info("stopped")


@contextmanager
def _sigterm_like_sigint() -> Iterator[None]:
    """Raises KeyboardInterrupt at SIGTERM, so that a transfer ends and what it has written is removed."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def local_copy(url: str, every_s: float | None, say: Callable[[str], None]) -> Path:
    """Fetches the models at a URL into a cache folder, and returns it.

    If they cannot be fetched, but were before, that is what is served.

    Args:
        url: Of the remote repository.
        every_s: Seconds between two further fetches, on a thread of their own; None for none.
        say: Prints a line.

    Raises:
        StartupError: There is nothing to serve.
    """
    folder = cache_folder(url)
    try:
        with FetchProgress() as bar:
            remote = RemoteRepository(url)
            fetcher = Fetcher(remote, folder, progress=bar.show)
            follower = Follower(fetcher, remote.url, every_s or 0)
            try:
                follower.fetch()
            except RemoteUnavailable as error:
                if not _holds_models(folder):
                    raise
                _log.warning("%s; serving what was fetched before", error)
    except RemoteError as error:
        raise StartupError(f"--models {error}") from error
    say(f"models of {remote.url} are in {folder}")
    if every_s is not None:
        again = Follower(Fetcher(remote, folder), remote.url, every_s)
        run = threading.Thread(
            target=again.run, args=(threading.Event(),), kwargs={"at_once": False}, name="fetch", daemon=True
        )
        run.start()
    return folder


def cache_folder(url: str) -> Path:
    """The folder for the models at a URL, in the user's cache; makes it.

    Raises:
        StartupError: It cannot be made.
    """
    name = f"{_ODD.sub('-', url.partition('://')[2])[:60]}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    folder = cache / "ganserve" / "models" / name.lstrip("-.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartupError(
            f"--models: cannot write to the cache {folder} ({error.strerror}); set XDG_CACHE_HOME to another folder"
        ) from error
    return folder


def _holds_models(folder: Path) -> bool:
    try:
        return bool(list_models(folder))
    except (BundleError, OSError):
        return False
