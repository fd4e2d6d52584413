"""Copies new versions from a model repository at a URL into a local one.

A version is fetched into a hidden folder, checked against the hashes in its card, and moved into place by one rename:
a server that polls the local repository sees all of it or nothing.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ganserve.bundle import (
    CARD_FILE,
    MAX_CARD_BYTES,
    MAX_GRAPH_BYTES,
    TRITON_CONFIG_FILE,
    BundleError,
    Card,
    check_name,
    move_into_place,
    parse_card,
    read_card,
    sha256_of,
    staging_folder,
    version_folder,
)
from ganserve.files import read_regular_file, replace_file
from ganserve.foreign import first_line
from server.remote.errors import NotThere, RemoteError, RemoteUnavailable
from server.remote.repository import RemoteRepository

Progress = Callable[[str, int, int | None], None]
"""Is called with the name of a file, the bytes of it so far, and its bytes in all, if they are known."""

_FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass
class Outcome:
    """What one pass has done. Versions are written as in "dcgan:3"."""

    fetched: dict[str, int] = field(default_factory=dict)  # bytes, by version
    present: list[str] = field(default_factory=list)  # were there already
    settings: list[str] = field(default_factory=list)  # models whose config.pbtxt is new or has changed
    unfinished: list[str] = field(default_factory=list)  # have no card yet: somebody is uploading them
    problems: list[str] = field(default_factory=list)  # why a version was not fetched


class Fetcher:
    """Keeps a local repository up to date with a remote one. Deletes nothing, and replaces no version.

    Args:
        remote: The repository to copy from.
        folder: The local repository; made if there is none.
        names: Of the models; empty for all.
        progress: Hears of the transfers.

    Raises:
        RemoteError: A name is none of a model.
    """

    def __init__(
        self, remote: RemoteRepository, folder: Path, names: Sequence[str] = (), progress: Progress | None = None
    ) -> None:
        try:
            self._names = [check_name(name) for name in names]
        except BundleError as error:
            raise RemoteError(f"--model: {error}") from error
        self._remote = remote
        self._folder = folder
        self._progress = progress
        self._compared: set[tuple[str, int]] = set()  # versions never change, so their cards are read once

    def fetch(self) -> Outcome:
        """Fetches the versions that are not there yet, and the config.pbtxt of each model.

        Raises:
            RemoteUnavailable: The remote repository cannot be read or has no model, or the local one cannot be written.
        """
        self._remote.refresh()
        models = self._models()
        outcome = Outcome()
        try:
            with staging_folder(self._folder) as scratch:
                if not models:  # the URL of a version
                    self._fetch_version(scratch, "", None, outcome)
                for name, (versions, has_config) in models.items():
                    self._fetch_model(scratch, name, versions, has_config, outcome)
        except (BundleError, OSError) as error:
            reason = error if isinstance(error, BundleError) else f"{self._folder}: {first_line(error)}"
            raise RemoteUnavailable(f"{reason}; give a folder that can be written to") from error
        return outcome

    def _models(self) -> dict[str, tuple[list[int], bool]]:
        """The versions of each model, and whether it has a config.pbtxt; empty if the URL is that of a version."""
        names, why_not_listed = self._names, None
        if not names:
            try:
                names = self._remote.models()
            except RemoteUnavailable as error:  # a web server without index pages can still serve a version
                why_not_listed = error
        models: dict[str, tuple[list[int], bool]] = {}
        for name in names:
            try:
                versions, has_config = self._remote.versions(name)
            except NotThere:  # not every link on an index page leads to a model
                versions, has_config = [], False
            if versions:
                models[name] = (versions, has_config)
            elif self._names:
                raise NotThere(f"--model {name}: {self._remote.url} has no version of it; check the name")
        if not models and not self._remote.has(CARD_FILE):
            raise why_not_listed or NotThere(
                f"{self._remote.url}: holds no model; give the folder that holds them, as NAME/VERSION/{CARD_FILE}"
            )
        return models

    def _fetch_model(
        self, scratch: Path, name: str, versions: Sequence[int], has_config: bool, outcome: Outcome
    ) -> None:
        is_new = not (self._folder / name / TRITON_CONFIG_FILE).exists()
        # It may pin a version, so a new model gets it first; it may label a new version, so others get it last.
        if has_config and is_new:
            self._fetch_config(scratch, name, outcome)
        problems = len(outcome.problems)
        for version in reversed(versions):
            self._fetch_version(scratch, f"{name}/{version}/", (name, version), outcome)
        if has_config and not is_new and len(outcome.problems) == problems:
            self._fetch_config(scratch, name, outcome)

    def _fetch_config(self, scratch: Path, name: str, outcome: Outcome) -> None:
        config = self._folder / name / TRITON_CONFIG_FILE
        try:
            content = self._remote.read(f"{name}/{TRITON_CONFIG_FILE}", scratch, MAX_CARD_BYTES)
        except (NotThere, BundleError) as error:
            outcome.problems.append(str(error))
            return
        if config.exists() and read_regular_file(config, MAX_CARD_BYTES) == content:
            return
        config.parent.mkdir(exist_ok=True)
        replace_file(config, content)
        outcome.settings.append(name)

    def _fetch_version(self, scratch: Path, path: str, expected: tuple[str, int] | None, outcome: Outcome) -> None:
        """Fetches the version at a path, which is empty or ends with a slash, unless it is there."""
        if expected in self._compared:
            outcome.present.append(_label(*expected))
            return
        try:
            content = self._remote.read(path + CARD_FILE, scratch, MAX_CARD_BYTES)
        except NotThere:
            outcome.unfinished.append(path.rstrip("/"))
            return
        except BundleError as error:
            outcome.problems.append(str(error))
            return
        try:
            card = parse_card(content, self._remote.where(path + CARD_FILE))
            key = check_name(card.name), card.version
            if expected not in (None, key):
                raise BundleError(f"{self._remote.where(path + CARD_FILE)}: is the card of {card.name}/{card.version}")
            if not self._is_there(card):
                outcome.fetched[_label(*key)] = self._fetch_files(scratch, path, card, content)
            else:
                outcome.present.append(_label(*key))
        except (BundleError, NotThere) as error:
            outcome.problems.append(str(error))
        else:
            self._compared.add(key)

    def _is_there(self, card: Card) -> bool:
        target = version_folder(self._folder, card.name, card.version)
        if not target.exists():
            return False
        try:
            if read_card(target) == card:
                return True
        except BundleError as error:
            raise BundleError(f"{error}, or remove {target} to fetch it again") from error
        raise BundleError(
            f"{target}: is another export than that at {self._remote.url}, and a version never changes; publish under"
            " another version, or remove this folder"
        )

    def _fetch_files(self, scratch: Path, path: str, card: Card, content: bytes) -> int:
        """Fetches the files of a version, checks them and publishes them; returns their size in bytes."""
        target = version_folder(self._folder, card.name, card.version)
        staged = scratch / f"{card.name}-{card.version}"
        staged.mkdir()
        try:
            for name, sha256 in card.files.items():
                self._fetch_file(path + name, staged / _checked(name, self._remote.where(path + CARD_FILE)), sha256)
            total_bytes = sum(file.stat().st_size for file in staged.iterdir())
            (staged / CARD_FILE).write_bytes(content)
            target.parent.mkdir(exist_ok=True)
            try:
                move_into_place(staged, target)
            except OSError:  # another process may have fetched it meanwhile
                if not self._is_there(card):
                    raise
            return total_bytes
        finally:
            shutil.rmtree(staged, ignore_errors=True)  # so that two versions do not need the space of three

    def _fetch_file(self, path: str, target: Path, sha256: str) -> None:
        def on_part(done_bytes: int, total_bytes: int | None) -> None:
            if self._progress is not None:
                self._progress(path, done_bytes, total_bytes)

        self._remote.download(path, target, MAX_GRAPH_BYTES, on_part)
        if sha256_of(target) != sha256:
            raise BundleError(
                f"{self._remote.where(path)}: its sha256 differs from the card's, so it is still being uploaded, or was"
                " changed: then publish the version again"
            )


def _label(name: str, version: int) -> str:
    return f"{name}:{version}"


def _checked(name: str, where: str) -> str:
    """A file name in a card, which must not lead out of the folder of the version.

    Raises:
        BundleError: It may.
    """
    if not _FILE_NAME.fullmatch(name) or name == CARD_FILE:
        raise BundleError(f"{where}: lists {name!r:.80}, which is no name of a file; export the model again")
    return name
