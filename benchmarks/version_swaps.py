"""Swaps the served version of a model again and again under load; counts failed answers and measures memory at rest.

    python -m benchmarks.version_swaps [--swaps 500] [--callers 16] [--preset dcgan64-k4] [--out swaps.json]

Server and callers are in this process, so that every object can be counted. Two versions with different weights take
turns. Each answer is compared with the images that its version computed before the load.

Memory is measured at equal points: the callers pause, all requests are answered, and garbage is collected. Then a leak
shows in three ways that the allocator cannot cause: more live sessions, batchers or threads than at the first point; a
growing number of bytes that Python holds (tracemalloc, with --trace); or resident memory that still grows after
`malloc_trim` has given the free pages back. Resident memory that grows before `malloc_trim` and not after it is only
free memory that the allocator keeps.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import tempfile
import threading
import time
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any, Final

import click
import grpc
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.overload import resident_mib
from benchmarks.report import report
from benchmarks.serving import publish_untrained
from ganserve.v1 import generator_pb2, model_control_pb2
from ganserve.v1.generator_pb2_grpc import GeneratorStub
from ganserve.v1.model_control_pb2_grpc import ModelControlStub
from server.app import Server, start
from server.config import Address, ServerConfig
from server.models.served_model import ServedModel
from server.scheduling.batcher import Batcher

_VERSIONS: Final = (1, 2)
_MAX_ROWS: Final = 16
_SEED: Final = 7
_POINTS: Final = 10
_TIMEOUT_S: Final = 60
_OPTIONS: Final = [("grpc.max_receive_message_length", -1)]
_COUNTED: Final = (onnxruntime.InferenceSession, Batcher, ServedModel)


class Callers:
    """Sends requests of 1 to 16 rows without pause, except while it is paused, and counts the outcomes.

    Args:
        stub: the generator.
        model: name of the model.
    """

    def __init__(self, stub: Any, model: str) -> None:
        self._stub = stub
        self._model = model
        self._running = asyncio.Event()
        self._idle = asyncio.Event()
        self._in_flight = 0
        self.expected: dict[int, NDArray[np.uint8]] = {}  # images of the first rows of the seed, by version
        self.outcomes: Counter[str] = Counter()
        self.versions: Counter[int] = Counter()

    async def ask(self, rows: int) -> tuple[int, NDArray[np.uint8]]:
        """The version that answered, and the images of the first rows of the seed."""
        seeded = generator_pb2.SeededLatents(seed=_SEED, count=rows)
        answer = await self._stub.Generate(
            generator_pb2.GenerateRequest(model=self._model, seeded=seeded), timeout=_TIMEOUT_S
        )
        return answer.version, np.frombuffer(answer.images.data, np.uint8).reshape(tuple(answer.images.shape))

    async def call(self, number: int) -> None:
        """Sends requests until it is cancelled."""
        rows = 1 + number % _MAX_ROWS
        while True:
            await self._running.wait()
            self._in_flight += 1
            try:
                version, images = await self.ask(rows)
            except grpc.aio.AioRpcError as error:
                self.outcomes[error.code().name] += 1
            else:
                difference = int(np.abs(images.astype(int) - self.expected[version][:rows]).max())
                self.outcomes["right" if difference <= 1 else "wrong"] += 1
                self.versions[version] += 1
            finally:
                self._in_flight -= 1
                if not self._in_flight:
                    self._idle.set()

    def resume(self) -> None:
        """Lets requests go."""
        self._running.set()

    async def pause(self) -> None:
        """Stops sending, and waits for the answers."""
        self._running.clear()
        while self._in_flight:
            self._idle.clear()
            await self._idle.wait()


def open_files() -> int:
    """Number of open file descriptors of this process (Linux)."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def at_rest(server: Server, swaps: int, seconds: float, callers: Callers) -> dict[str, Any]:
    """One row of the table; call it while nothing is in flight."""
    while server.core.models.open_batchers > 1:  # noqa: ASYNC110 - the old version is being freed
        await asyncio.sleep(0.01)
    gc.collect()
    before_mib = resident_mib(os.getpid())
    ctypes.CDLL(None).malloc_trim(0)
    # Not isinstance, which would wake lazily imported modules.
    live = Counter(type(found) for found in gc.get_objects() if type(found) in _COUNTED)
    outcomes = callers.outcomes
    return {
        "swaps": swaps,
        "answers": outcomes.total(),
        "failed": outcomes.total() - outcomes["right"] - outcomes["wrong"],
        "wrong": outcomes["wrong"],
        "swaps/s": swaps / seconds if seconds else 0.0,
        "MiB": before_mib,
        "MiB after malloc_trim": resident_mib(os.getpid()),
        "traced MiB": tracemalloc.get_traced_memory()[0] / 2**20,
        "sessions": live[onnxruntime.InferenceSession],
        "batchers": live[Batcher],
        "models": live[ServedModel],
        "threads": threading.active_count(),
        "files": open_files(),
    }


async def swap(repository: Path, model: str, swaps: int, callers: int, points: int = _POINTS) -> list[dict[str, Any]]:
    """Runs the load; returns one row of the table before the first swap, and one at each of `points` points."""
    config = ServerConfig(
        models=repository,
        address=Address("127.0.0.1", 0),
        metrics_address=Address("127.0.0.1", 0),
        device="cpu",
        model_control="explicit",
    )
    server = await start(config)
    generator: Any = GeneratorStub
    control: Any = ModelControlStub
    table: list[dict[str, Any]] = []
    async with grpc.aio.insecure_channel(str(server.address), options=_OPTIONS) as channel:
        control, load = control(channel), Callers(generator(channel), model)

        async def change_to(version: int) -> None:
            await control.LoadModel(model_control_pb2.LoadModelRequest(model=model, version=version))

        for version in _VERSIONS:
            await change_to(version)
            answered, load.expected[version] = await load.ask(_MAX_ROWS)
            assert answered == version
        tasks = [asyncio.create_task(load.call(number)) for number in range(callers)]
        done, seconds = 0, 0.0
        for point in range(points + 1):
            load.resume()
            began_s = time.perf_counter()
            while done < swaps * point // points:
                await change_to(_VERSIONS[done % 2])
                done += 1
            seconds += time.perf_counter() - began_s
            await load.pause()
            table.append(await at_rest(server, done, seconds, load))
            click.echo(f"{done} of {swaps} swaps, answers by version {dict(sorted(load.versions.items()))}")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await server.close()
    return table


@click.command()
@click.option("--swaps", type=click.IntRange(_POINTS, 1_000_000), default=500, show_default=True)
@click.option("--callers", type=click.IntRange(1, 1024), default=16, show_default=True)
@click.option("--model", default="dcgan", show_default=True)
@click.option("--preset", default="dcgan64-k4", show_default=True)
@click.option("--trace", is_flag=True, help="Also trace Python's allocations, which slows everything down.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON file to write.")
def main(swaps: int, callers: int, model: str, preset: str, trace: bool, out: Path | None) -> None:
    """Swaps versions under load, and measures what stays in memory."""
    with tempfile.TemporaryDirectory() as repository:
        for _ in _VERSIONS:
            publish_untrained(Path(repository), model, preset)
        if trace:
            tracemalloc.start()
        table = asyncio.run(swap(Path(repository), model, swaps, callers))
    report(f"{swaps} swaps of {preset} under {callers} callers, at rest, on the CPU", table, out)
    middle, end = table[len(table) // 2], table[-1]
    grown_mib = end["MiB after malloc_trim"] - middle["MiB after malloc_trim"]
    click.echo(
        f"{end['failed']} failed, {end['wrong']} wrong; memory at rest grew by {grown_mib:.1f} MiB in the second half"
    )


if __name__ == "__main__":
    main()
