"""Puts loaded versions into the catalog, rebuilds their engines, and frees them.

A version that is replaced or unloaded still answers its requests in flight, and is closed after the last of them.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import Final

from ganserve.bundle import BundleError
from server.config import ServerConfig
from server.daemon_threads import in_daemon_thread
from server.engines.bf16 import LARGE_ROWS, load_bf16_instances
from server.engines.loading import load_instances
from server.errors import StartupError
from server.gate import Gate
from server.models.background_tasks import BackgroundTasks
from server.models.catalog import Catalog
from server.models.repository import LoadedModel
from server.models.served_model import ServedModel
from server.scheduling.batcher import Batcher
from server.scheduling.instances import close_instances
from server.statistics import ModelStatistics

_log = logging.getLogger(__name__)
_REBUILD_PAUSES_S: Final = (0.0, 0.1, 1.0, 5.0)  # before each attempt to rebuild; the last one repeats


class Serving:
    """Starts and stops serving versions, and rebuilds their engines. For one event loop.

    Args:
        catalog: the served models.
        config: how to compute.
        gate: counts the requests in flight.
        tasks: for work that outlives its caller.
    """

    def __init__(self, catalog: Catalog, config: ServerConfig, gate: Gate, tasks: BackgroundTasks) -> None:
        self._catalog = catalog
        self._config = config
        self._gate = gate
        self._tasks = tasks
        self._open: set[Batcher] = set()  # includes replaced versions that are still in use

    @property
    def open_batchers(self) -> int:
        """Number of versions that hold engines: the served ones, and replaced ones that are still in use."""
        return len(self._open)

    def serve(self, model: LoadedModel) -> None:
        """Serves a version beside the others of its model; it replaces the same version."""
        card, loaded, config = model.contract.card, model.loaded, self._config
        before = self._catalog.version(card.name, card.version)
        # A version that is loaded again keeps its counters, which must never go down while it is served.
        statistics = before.statistics if before is not None else ModelStatistics()
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
        batcher.on_broken = lambda: self._tasks.start(self._repair(model.folder, served))
        self._open.add(batcher)
        self._catalog.add(served)
        if before is not None:
            self._tasks.start(self._close(before))
        if config.precision == "bf16" and loaded.precision == "fp32":
            self._tasks.start(self._add_large_instances(model.folder, served))

    def remove(self, model: ServedModel) -> asyncio.Task[None]:
        """Stops serving a version; the task ends once its requests in flight are answered and it is freed."""
        if not model.ready:
            model.batcher.fail_waiting(f"{model} is being unloaded, and an engine broke: try again")
        self._catalog.remove(model.card.name, model.card.version)
        return self._tasks.start(self._close(model))

    def hurry(self) -> None:
        """Before a stop: ends the delay of batches, and fails requests that wait for engines being rebuilt."""
        for batcher in self._open:
            if batcher.broken:
                batcher.fail_waiting("the server is stopping: try another replica")
            else:
                batcher.hurry()

    async def close(self) -> None:
        """Lets running batches finish, fails waiting requests, and frees the engines. Safe to call twice."""
        for batcher in list(self._open):
            await batcher.close()
        self._open.clear()

    async def _close(self, model: ServedModel) -> None:
        """Frees the engines of a version that left the catalog, once it has no users."""
        await model.unused()
        await model.batcher.close()
        self._open.discard(model.batcher)

    def _is_served(self, model: ServedModel) -> bool:
        return self._catalog.version(model.card.name, model.card.version) is model

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
            return False  # any error, such as out of memory, may be temporary
        model.batcher.rebuild(loaded.groups)
        model.backend, model.device, model.precision = loaded.backend, loaded.device, loaded.precision
        model.statistics.engine_rebuilt()
        _log.warning("%s: its engines were rebuilt on %s", model, model.device)
        if config.precision == "bf16" and loaded.precision == "fp32":
            self._tasks.start(self._add_large_instances(folder, model))
        return True
