"""The lifecycle of the served models: load, serve, replace by a newer version, rebuild, unload.

Loading runs in threads; only the event loop changes the catalog. A version that is replaced or unloaded still answers
its requests in flight, and is closed after the last of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from ganserve.bundle import BundleError, list_models, list_versions
from server.config import ServerConfig
from server.daemon_threads import in_daemon_thread
from server.engines.bf16 import LARGE_ROWS, load_bf16_instances
from server.engines.loading import load_instances
from server.errors import NotServed, ServerError, StartupError, Unavailable
from server.gate import Gate
from server.limits import quote
from server.models.catalog import Catalog, ServedModel
from server.models.repository import LoadedModel, load_newest, load_repository
from server.scheduling.batcher import Batcher
from server.scheduling.instances import close_instances
from server.statistics import ModelStatistics

_log = logging.getLogger(__name__)
_REBUILD_PAUSES_S: Final = (0.0, 0.1, 1.0, 5.0)  # before each attempt to rebuild; the last one repeats
_UNLOAD_WAIT_S: Final = 30.0


class IndexEntry(NamedTuple):
    """One version in the repository."""

    name: str
    version: int
    state: Literal["READY", "UNAVAILABLE", "LOADING"]
    reason: str


class Models:
    """Loads models into a catalog, replaces and unloads them, and rebuilds their engines. For one event loop.

    Args:
        catalog: the served models.
        config: where the models are, and how to load them.
        gate: counts the requests in flight.
    """

    def __init__(self, catalog: Catalog, config: ServerConfig, gate: Gate) -> None:
        self._catalog = catalog
        self._config = config
        self._gate = gate
        self._changing = asyncio.Lock()  # one load or unload at a time, because they take memory and cores
        self._loading: set[str] = set()
        self._stopping = asyncio.Event()
        self._open: set[Batcher] = set()  # includes replaced versions that are still in use
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def open_batchers(self) -> int:
        """Number of versions that hold engines: the served ones, and replaced ones that are still in use."""
        return len(self._open)

    async def load_all(self) -> None:
        """Loads every model.

        Raises:
            StartupError: no model can be served.
        """
        for model in await in_daemon_thread(lambda: list(load_repository(self._config))):
            self._serve(model)

    async def load(self, name: str) -> None:
        """Serves the newest working version of a model; it replaces the served one.

        Raises:
            NotServed: the repository has no such model.
            Unavailable: none of its versions works, or the server is stopping; the served one is kept.
        """
        # In its own task: if the caller gives up, loading continues, and the next load waits for it.
        await self._unless_stopping(self._start(self._load(name)))

    async def unload(self, name: str) -> None:
        """Stops serving a model; returns when its requests in flight are answered.

        Raises:
            NotServed: it is not served.
            Unavailable: it is unloaded, but requests are still being answered after a long time.
        """
        await asyncio.shield(self._start(self._unload(name)))

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

    async def _load(self, name: str) -> None:
        async with self._changing:
            if name not in await in_daemon_thread(self._names):
                raise NotServed(f"no model {quote(name)} is in the repository: export it into {self._config.models}")
            self._loading.add(name)
            try:
                model = await in_daemon_thread(load_newest, self._config, name)
            except StartupError as error:
                raise Unavailable(f"{name!r} cannot be loaded: {error}") from error
            finally:
                self._loading.discard(name)
            if model is None:
                raise Unavailable(f"no version of {name!r} works: see the server's log, and export it again")
            self._serve(model)

    async def _unload(self, name: str) -> None:
        async with self._changing:
            if (model := self._catalog.get(name)) is None:
                raise NotServed(f"no model {quote(name)} is served")
            if not model.ready:
                model.batcher.fail_waiting(f"{name!r} is being unloaded, and an engine broke: try another replica")
            self._catalog.remove(name)
            closed, _ = await asyncio.wait([self._start(self._close(model))], timeout=_UNLOAD_WAIT_S)
            if not closed:
                raise Unavailable(f"{name!r} is unloaded, but requests are still being answered: wait for them")

    def index(self) -> list[IndexEntry]:
        """Returns every version in the repository; reads the disk, so call it off the event loop."""
        served = dict(self._catalog)
        entries: list[IndexEntry] = []
        for name in sorted({*self._names(), *served}):
            try:
                versions = list_versions(self._config.models, name)
            except (BundleError, OSError):
                versions = []
            model = served.get(name)
            known = sorted({*versions, *([model.card.version] if model else [])})
            entries.extend(self._index_entry(name, version, model) for version in known)
        return entries

    def hurry(self) -> None:
        """Before a stop: ends the delay of batches, and fails requests that wait for a load or a rebuild."""
        self._stopping.set()
        for batcher in self._open:
            if batcher.broken:
                batcher.fail_waiting("the server is stopping: try another replica")
            else:
                batcher.hurry()

    async def close(self) -> None:
        """Lets running batches finish, fails waiting requests, and frees the engines. Safe to call twice."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for batcher in list(self._open):
            await batcher.close()
        self._open.clear()

    def _names(self) -> list[str]:
        try:
            return list_models(self._config.models)
        except (BundleError, OSError) as error:
            raise Unavailable(f"the model repository cannot be read: {error}") from error

    def _index_entry(self, name: str, version: int, model: ServedModel | None) -> IndexEntry:
        if model is not None and model.card.version == version:
            return IndexEntry(name, version, *(("READY", "") if model.ready else ("UNAVAILABLE", "being rebuilt")))
        if name in self._loading:
            return IndexEntry(name, version, "LOADING", "")
        return IndexEntry(name, version, "UNAVAILABLE", "not loaded")

    def _serve(self, model: LoadedModel) -> None:
        card, loaded, config = model.contract.card, model.loaded, self._config
        before = self._catalog.get(card.name)
        # A version that is loaded again keeps its counters, which must never go down while it is served.
        is_same = before is not None and before.card.version == card.version
        statistics = before.statistics if before is not None and is_same else ModelStatistics()
        batcher = Batcher(
            loaded.groups,
            max_queue_rows=config.max_queue_rows,
            max_delay_s=None if config.max_queue_delay_us is None else config.max_queue_delay_us / 1e6,
            observer=statistics,
            # A request whose answer is still being sent counts, too: its client is likely to send the next one.
            is_lone=lambda: self._gate.inside <= 1,
            name=card.name,
        )
        served = ServedModel(
            model.contract, loaded.backend, loaded.device, loaded.precision, batcher, statistics, model.file_bytes
        )
        batcher.on_broken = lambda: self._start(self._repair(model.folder, served))
        self._open.add(batcher)
        self._catalog.add(served)
        if before is not None:
            self._start(self._close(before))
        if config.precision == "bf16" and loaded.precision == "fp32":
            self._start(self._add_large_instances(model.folder, served))

    async def _close(self, model: ServedModel) -> None:
        """Frees the engines of a version that left the catalog, once it has no users."""
        await model.unused()
        await model.batcher.close()
        self._open.discard(model.batcher)

    def _is_served(self, model: ServedModel) -> bool:
        return self._catalog.get(model.card.name) is model

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None or isinstance(error, ServerError):
            return  # a refusal is for the caller, which may be gone
        _log.error("unexpected error", exc_info=error)

    async def _add_large_instances(self, folder: Path, model: ServedModel) -> None:
        """Loads instances that compute large batches in bf16; if that fails, fp32 computes all batches."""
        groups = model.batcher.groups
        try:
            instances = await in_daemon_thread(load_bf16_instances, folder, model.card, self._config)
        except (BundleError, StartupError, OSError) as error:
            _log.warning("%s is served in fp32: %s", model, error)
            return
        if self._is_served(model) and model.batcher.groups is groups:
            groups.add_large(instances, LARGE_ROWS)
            model.precision = "bf16"
            _log.info("%s: large batches are now computed in bf16", model)
        else:
            await asyncio.to_thread(close_instances, instances)

    async def _repair(self, folder: Path, model: ServedModel) -> None:
        """Tries to rebuild the engines of a model until they work or the model is no longer served."""
        with model.in_use():
            broken = model.batcher.groups
            await model.batcher.finish_computing()
            await asyncio.to_thread(broken.close)  # before the new ones load, because memory may not hold both
        for pause_s in chain(_REBUILD_PAUSES_S, repeat(_REBUILD_PAUSES_S[-1])):
            await asyncio.sleep(pause_s)
            if not self._is_served(model):
                model.batcher.fail_waiting(
                    f"an engine of {model} broke, and this version is no longer served: try again"
                )
                return
            with model.in_use():
                if await self._rebuild(folder, model):
                    return

    async def _rebuild(self, folder: Path, model: ServedModel) -> bool:
        config = replace(self._config, cuda_graphs=False)  # capturing a graph would disturb other models
        try:
            loaded = await in_daemon_thread(load_instances, folder, model.card, config)
        except (BundleError, StartupError, OSError) as error:
            _log.error("%s: rebuilding its engines failed, trying again: %s", model, error)
            return False
        except Exception:  # noqa: BLE001 - any error, such as out of memory, may be temporary
            _log.exception("%s: rebuilding its engines failed, trying again", model)
            return False
        model.batcher.rebuild(loaded.groups)
        model.backend, model.device, model.precision = loaded.backend, loaded.device, loaded.precision
        model.statistics.engine_rebuilt()
        _log.warning("%s: its engines were rebuilt on %s", model, model.device)
        if config.precision == "bf16" and loaded.precision == "fp32":
            self._start(self._add_large_instances(folder, model))
        return True
