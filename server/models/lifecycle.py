"""Decides which versions are served: load, replace, go back, unload, and follow the repository.

Loading runs in threads; only the event loop changes the catalog. A newer version is loaded while the older one serves,
and the older one goes only when the newer one is warm.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Final

from ganserve.bundle import BundleError, list_models
from server.config import ServerConfig
from server.daemon_threads import in_daemon_thread
from server.errors import NotLoaded, NotServed, StartupError, Unavailable
from server.gate import Gate
from server.limits import quote
from server.models.background_tasks import BackgroundTasks
from server.models.catalog import Catalog
from server.models.fingerprints import ModelFiles, scan_model
from server.models.model_settings import DEFAULT_SETTINGS, ModelSettings, read_settings
from server.models.poller import Poller
from server.models.repository import load_version, names_to_serve
from server.models.served_model import ServedModel
from server.models.serving import Serving
from server.models.version_state import Failure, IndexEntry, ModelState, VersionStatus

__all__ = ["IndexEntry", "Models"]

_log = logging.getLogger(__name__)
_UNLOAD_WAIT_S: Final = 30.0
_MAX_REASON_LENGTH: Final = 500
_MAX_LISTED: Final = 20  # names in a message


class Models:
    """Loads versions of models into a catalog, replaces and unloads them. For one event loop.

    Changes of one model wait for each other; those of different models do not, except that one version is loaded at a
    time.

    Args:
        catalog: the served models.
        config: where the models are, and how to load them.
        gate: counts the requests in flight.
    """

    def __init__(self, catalog: Catalog, config: ServerConfig, gate: Gate) -> None:
        self._catalog = catalog
        self._config = config
        self._tasks = BackgroundTasks()
        self._serving = Serving(catalog, config, gate, self._tasks)
        self._states: dict[str, ModelState] = {}
        self._stopping = asyncio.Event()
        self._loading = asyncio.Lock()  # one version at a time, because loading takes memory and cores
        self.load_counts: dict[str, int] = {"ok": 0, "failed": 0}  # versions loaded, by outcome

    @property
    def open_batchers(self) -> int:
        """Number of versions that hold engines: the served ones, and replaced ones that are still in use."""
        return self._serving.open_batchers

    async def load_all(self) -> None:
        """Loads every model; logs those that cannot be served.

        Raises:
            StartupError: no model can be served, or the device is not available.
        """
        for name in await in_daemon_thread(names_to_serve, self._config):
            try:
                files = await self._scan(name)
            except Unavailable as error:
                _log.error("%s: the model is not served: %s", name, error)
            else:
                await self._apply(name, self._state(name), files, retry=True)
        if not self._catalog:
            raise StartupError(
                f"--models: no model in {self._config.models} works; see the log above, and export them again"
            )
        if self._config.model_control == "poll":
            poller = Poller(self.follow, self._applied, self._config.models, self._config.poll_s, self._tasks)
            self._tasks.start(poller.run())

    async def load_some(self, wanted: Mapping[str, int | None]) -> None:
        """Loads some models instead of all, each like `load`; but if the newest version is broken, an older one serves.

        Raises:
            StartupError: there is no repository.
            NotServed: the repository has no such model or version.
            NotLoaded: no version of a model works, or not the wanted one.
            Unavailable: the device is not available.
        """
        names = await in_daemon_thread(names_to_serve, self._config)
        for name, version in wanted.items():
            if name not in names:
                known = ", ".join(names[:_MAX_LISTED]) + (", ..." if len(names) > _MAX_LISTED else "")
                raise NotServed(f"no model {quote(name)} is in {self._config.models}: use one of {known}")
            try:
                await self.load(name, version)
            except NotLoaded:
                if version is not None or name not in self._catalog:
                    raise

    async def load(self, name: str, version: int | None = None, *, newest: bool = False) -> None:
        """Serves a model as its version policy says; a version that an operator chose stays the default.

        Args:
            name: name of the model.
            version: makes this version the default, until another one is chosen or the server restarts.
            newest: ends the choice of a version, so that the newest one is the default again.

        Raises:
            NotServed: the repository has no such model or version.
            NotLoaded: a version does not work; the message says which ones are served.
        """
        # In its own task: if the caller gives up, loading continues, and the next load waits for it.
        await self._unless_stopping(self._tasks.start(self._load(name, version, newest=newest)))

    async def unload(self, name: str, version: int | None = None) -> None:
        """Stops serving a model, or one version of it; returns when its requests in flight are answered.

        Raises:
            NotServed: it is not served.
            Unavailable: it is unloaded, but requests are still being answered after a long time.
        """
        await asyncio.shield(self._tasks.start(self._unload(name, version)))

    async def roll_back(self, name: str) -> None:
        """Makes the newest working version that is older than the default one the default, and loads it if needed.

        Raises:
            NotServed: the model is not served.
            NotLoaded: no older version works.
        """
        await self._unless_stopping(self._tasks.start(self._roll_back(name)))

    async def follow(self, name: str) -> None:
        """Serves what the repository has now; tries broken versions again only if their files changed.

        Does nothing if an operator unloaded the model, or if it is being changed.
        """
        state = self._state(name)
        if state.changing.locked():
            return
        async with state.changing:
            try:
                files = await self._scan(name)
                if state.unloaded:
                    state.applied = files
                else:
                    await self._apply(name, state, files, retry=False)
            except (StartupError, Unavailable) as error:
                _log.error("%s: what is served stays as it is: %s", name, error)

    def failed_versions(self) -> list[tuple[str, str]]:
        """Name and version of those in the repository that could not be loaded; may be called in any thread."""
        states = self._states.copy().items()
        return [(name, str(version)) for name, state in states for version in sorted(state.failures)]

    def index(self, name: str | None = None) -> list[IndexEntry]:
        """Returns every version of one model or of all; reads the disk, so call it off the event loop."""
        names = sorted({*self._names(), *self._catalog}) if name is None else [name]
        entries: list[IndexEntry] = []
        for listed in names:
            try:
                versions: Collection[int] = scan_model(self._config.models, listed).versions
            except (BundleError, OSError):
                versions = []
            served = {model.card.version: model for model in self._catalog.versions(listed)}
            default = self._catalog.get(listed)
            for version in sorted({*versions, *served}):
                model = served.get(version)
                is_default = model is not None and model is default
                entries.append(self._index_entry(listed, version, model, is_default=is_default))
        return entries

    def hurry(self) -> None:
        """Before a stop: ends the delay of batches, and fails requests that wait for a load or a rebuild."""
        self._stopping.set()
        self._serving.hurry()

    async def close(self) -> None:
        """Lets running batches finish, fails waiting requests, and frees the engines. Safe to call twice."""
        await self._tasks.cancel()
        await self._serving.close()

    async def _unless_stopping(self, loading: asyncio.Task[None]) -> None:
        """Waits for a load, which may never end, but not after `hurry`."""
        stopping = asyncio.get_running_loop().create_task(self._stopping.wait())
        try:
            await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        if not loading.done():
            raise Unavailable("the server is stopping: try another replica")
        await loading

    def _applied(self) -> dict[str, ModelFiles]:
        return {name: state.applied for name, state in self._states.items() if state.applied is not None}

    def _state(self, name: str) -> ModelState:
        return self._states.setdefault(name, ModelState())

    def _names(self) -> list[str]:
        try:
            return list_models(self._config.models)
        except (BundleError, OSError) as error:
            raise Unavailable(f"the model repository cannot be read: {error}") from error

    def _index_entry(self, name: str, version: int, model: ServedModel | None, *, is_default: bool) -> IndexEntry:
        state = self._states.get(name) or ModelState()
        failure = state.failures.get(version)
        reason = "" if failure is None else failure.reason
        status: VersionStatus = "UNAVAILABLE"
        if model is not None:
            status, reason = ("READY", reason) if model.ready else (status, "being rebuilt")
        elif state.loading == version:
            status, reason = "LOADING", ""
        elif failure is None:
            reason = state.why_not_served(version)
        return IndexEntry(
            name, version, status, reason, tuple(state.settings.labels_of(version)), is_default, state.chosen == version
        )

    @asynccontextmanager
    async def _changing(self, name: str) -> AsyncIterator[ModelState]:
        """Holds the lock of a model for a change that a client requests, which a missing device makes UNAVAILABLE."""
        state = self._state(name)
        async with state.changing:
            try:
                yield state
            except StartupError as error:
                raise Unavailable(f"{name!r} cannot be loaded: {error}") from error

    def _served(self, name: str) -> list[ServedModel]:
        if not (models := self._catalog.versions(name)):
            raise NotServed(f"no model {quote(name)} is served")
        return models

    async def _load(self, name: str, version: int | None, *, newest: bool) -> None:
        if name not in await in_daemon_thread(self._names):
            raise NotServed(f"no model {quote(name)} is in the repository: export it first")
        async with self._changing(name) as state:
            files = await self._scan(name)
            if version is None:
                state.unloaded, state.excluded = False, frozenset()
                if newest:
                    state.chosen = None
                if failed := await self._apply(name, state, files, retry=True):
                    raise NotLoaded(self._explanation(name, state, failed))
            elif version in files.versions:
                await self._choose(name, state, files, [version])
            else:
                known = ", ".join(map(str, sorted(files.versions)))
                raise NotServed(f"version {version} of {name!r} is not in the repository: use one of {known}")

    async def _roll_back(self, name: str) -> None:
        self._served(name)
        async with self._changing(name) as state:
            self._served(name)
            default = self._catalog[name]
            files = await self._scan(name)
            older = sorted((version for version in files.versions if version < default.card.version), reverse=True)
            if not older:
                raise NotLoaded(f"{default} has no older version in the repository: load another version by its number")
            await self._choose(name, state, files, older)

    async def _choose(self, name: str, state: ModelState, files: ModelFiles, versions: list[int]) -> None:
        """Makes the first of `versions` that works the default, and serves the others as the policy says.

        Raises:
            NotLoaded: none of them works; nothing changes then.
        """
        for version in versions:
            if await self._ensure(name, state, version, files, retry=True):
                state.unloaded, state.chosen = False, version
                state.excluded -= {version}
                await self._apply(name, state, files, retry=False)
                return
        raise NotLoaded(self._explanation(name, state, versions))

    async def _unload(self, name: str, version: int | None) -> None:
        self._served(name)
        async with self._changing(name) as state:
            models = self._served(name)
            if version is None:
                state.unloaded, state.chosen = True, None
            else:
                models = [model for model in models if model.card.version == version]
                if not models:
                    raise NotServed(f"version {version} of {name!r} is not served")
                state.excluded |= {version}
                if state.chosen == version:
                    state.chosen = None
            closing = self._remove(state, models)
            self._catalog.choose(name, state.chosen, state.settings)
        _, still_open = await asyncio.wait(closing, timeout=_UNLOAD_WAIT_S)
        if still_open:
            unloaded = ", ".join(map(str, models))
            raise Unavailable(f"{unloaded} is unloaded, but requests are still being answered: wait for them")

    async def _scan(self, name: str) -> ModelFiles:
        try:
            return await in_daemon_thread(scan_model, self._config.models, name)
        except OSError as error:
            raise Unavailable(f"the folder of {name!r} cannot be read ({error.strerror}): make it readable") from error

    async def _apply(self, name: str, state: ModelState, files: ModelFiles, *, retry: bool) -> list[int]:
        """Serves the versions that the policy asks for, stops serving the others, and returns those that failed.

        If none of them works, those that are served stay.

        Args:
            name: name of the model.
            state: its state.
            files: its files.
            retry: whether to try a version again that could not be loaded and has not changed since.

        Raises:
            StartupError: the device is not available.
        """
        state.applied = files
        state.settings = await in_daemon_thread(self._settings, name, state)
        state.failures = {version: known for version, known in state.failures.items() if version in files.versions}
        if state.chosen is not None and state.chosen not in files.versions:
            _log.warning("%s: the chosen version %d is gone; the newest one is the default", name, state.chosen)
            state.chosen = None
        policy = state.settings.policy
        candidates = policy.candidates(files.versions, state.chosen)
        wanted = policy.wanted_count(candidates)
        kept: set[int] = set()
        tried: list[int] = policy.missing(files.versions)
        if tried:
            listed = ", ".join(map(str, tried))
            _log.warning("%s: its version_policy names %s, which the repository does not have", name, listed)
        places = 0
        for version in candidates:
            if places == wanted:
                break
            if version in state.excluded:  # its place stays empty: an operator wants fewer versions, not older ones
                places += 1
                continue
            tried.append(version)
            if await self._ensure(name, state, version, files, retry=retry):
                kept.add(version)
                places += 1
        self._catalog.choose(name, state.chosen, state.settings)
        served = self._catalog.versions(name)
        if kept or not files.versions:
            self._remove(state, [model for model in served if model.card.version not in kept])
        if not files.versions:
            state.forget_choices()
            self._catalog.forget(name)
        elif not self._catalog.versions(name) and places < wanted:
            _log.error("%s: no version works, so the model is not served", name)
        return [version for version in tried if version in state.failures or version not in files.versions]

    async def _ensure(self, name: str, state: ModelState, version: int, files: ModelFiles, *, retry: bool) -> bool:
        """Loads and serves a version unless its files are served already; returns whether it is served in any state."""
        is_served = self._catalog.version(name, version) is not None
        seen = files.versions[version]
        failure = state.failures.get(version)
        if is_served and state.loaded.get(version) == seen:
            state.record_failure(version, None)
            return True
        if failure is not None and failure.files == seen and not retry:
            return is_served
        async with self._loading:
            state.loading = version
            try:
                model = await in_daemon_thread(load_version, self._config, name, version)
            except BundleError as error:
                _log.warning("%s:%d is broken and not served: %s", name, version, error)
                state.record_failure(version, Failure(self._reason(error), seen))
                self.load_counts["failed"] += 1
                return is_served
            finally:
                state.loading = None
            self._serving.serve(model)
        state.record_failure(version, None)
        state.loaded = {**state.loaded, version: seen}
        self.load_counts["ok"] += 1
        return True

    def _settings(self, name: str, state: ModelState) -> ModelSettings:
        """Reads the settings of a model; if they are invalid, warns once and returns the last valid ones."""
        try:
            settings = read_settings(self._config.models, name)
        except BundleError as error:
            if state.settings_error != str(error):
                state.settings_error = str(error)
                kept = "its newest version is served" if state.settings is DEFAULT_SETTINGS else "its settings stay"
                _log.warning("%s: %s, because %s", name, kept, error)
            return state.settings
        state.settings_error = ""
        return settings

    def _remove(self, state: ModelState, models: list[ServedModel]) -> list[asyncio.Task[None]]:
        gone = {model.card.version for model in models}
        state.loaded = {version: files for version, files in state.loaded.items() if version not in gone}
        for model in models:
            _log.info("%s is unloaded once its requests are answered", model)
        return [self._serving.remove(model) for model in models]

    def _reason(self, error: Exception) -> str:
        """One line for clients, without the path of the repository."""
        text = " ".join(str(error).split()).replace(f"{self._config.models}/", "")
        return text[:_MAX_REASON_LENGTH]

    def _explanation(self, name: str, state: ModelState, failed: list[int]) -> str:
        reasons = "; ".join(
            f"version {version} was not loaded: "
            + (state.failures[version].reason if version in state.failures else "it is not in the repository")
            for version in failed
        )
        served = [str(model.card.version) for model in self._catalog.versions(name)]
        if len(served) > 1:
            return f"{name!r}: {reasons}; versions {', '.join(served)} are served"
        return f"{name!r}: {reasons}; " + (f"version {served[0]} is served" if served else "no version is served")
