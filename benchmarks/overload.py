"""Goodput of an overloaded batcher and of an overloaded server.

    python -m benchmarks.overload [--times 1,2,5,10] [--deadlines 0.5,1,5] [--part batcher|server]

Goodput is what is answered before its deadline, as a share of the capacity. The load is an open loop: callers send at a
multiple of the capacity, whether or not they are answered, and do not retry.

The batcher is measured with an engine that sleeps 1 ms per row, so that the speed of the machine does not matter. The
server computes a real model, and shares the machine with its callers, whose work also lowers the goodput.
"""

from __future__ import annotations

import asyncio
import math
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
import grpc
import numpy as np
from numpy.typing import NDArray

from benchmarks.report import report
from benchmarks.serving import publish_untrained, server_process
from client.bench.loads import ClosedLoad, Load, OpenLoad
from client.bench.loops import measure
from client.bench.results import NOT_SENT, OK, Results
from ganserve.bundle import Card, LatentInput, example_rows
from ganserve.v1 import generator_pb2 as pb
from server.errors import PUSHBACK_KEY, ServerError
from server.scheduling.batcher import Batcher
from server.scheduling.instances import InstanceGroups

_CALLERS = 8
_CHANNELS = 4
_WARMUP_S = 1.0
_PUSHED_BACK = "refused with a retry time"
_OPTIONS = [("grpc.max_receive_message_length", -1)]
_ENGINE_ROWS_PER_S: Final = 1000
_PIXELS: Final = frozenset({"pixels"})


def _sleep_per_row(inputs: NDArray[Any], _: frozenset[str]) -> dict[str, NDArray[Any]]:
    time.sleep(len(inputs) / _ENGINE_ROWS_PER_S)
    return {"pixels": np.zeros((len(inputs), 4), np.uint8)}


async def batcher_goodput(
    sizes: str, draw_rows: Callable[[], int], load: float, deadline_s: float, seconds: float
) -> dict[str, Any]:
    """Overloads a batcher whose engine sleeps; returns one table row."""
    loop = asyncio.get_running_loop()
    batcher = Batcher(InstanceGroups.of(_sleep_per_row, 64), max_queue_rows=4096)
    statuses: Counter[str] = Counter()
    latencies_s: list[float] = []
    good_rows = 0

    async def request(rows: int) -> None:
        nonlocal good_rows
        began = loop.time()
        try:
            await batcher.submit(np.zeros((rows, 4), np.float32), _PIXELS, began + deadline_s)
        except ServerError as error:
            statuses[error.reason] += 1
            return
        ended = loop.time()
        latencies_s.append(ended - began)
        statuses["late" if ended > began + deadline_s else OK] += 1
        if ended <= min(start + seconds, began + deadline_s):
            good_rows += rows

    start, sent_rows = loop.time(), 0
    async with asyncio.TaskGroup() as requests:
        while (elapsed_s := loop.time() - start) < seconds:
            while sent_rows < elapsed_s * _ENGINE_ROWS_PER_S * load:
                rows = draw_rows()
                requests.create_task(request(rows))
                sent_rows += rows
            await asyncio.sleep(0.002)
    await batcher.close()
    median_s, p99_s = np.quantile(latencies_s, [0.5, 0.99])
    return {
        "rows": sizes,
        "load": load,
        "deadline s": deadline_s,
        "goodput": good_rows / _ENGINE_ROWS_PER_S / seconds,
        "median s": median_s,
        "p99 s": p99_s,
        "answered": statuses[OK],
        "refused": statuses["queue_full"],
        "late or expired": statuses["late"] + statuses["deadline"],
    }


class Sender:
    """Sends one request over several connections."""

    def __init__(self, address: str, body: bytes, deadline_s: float) -> None:
        self._channels = [
            grpc.aio.insecure_channel(address, [*_OPTIONS, ("ganserve.channel", number)]) for number in range(_CHANNELS)
        ]
        self._methods: list[Any] = [
            channel.unary_unary("/ganserve.v1.Generator/Generate") for channel in self._channels
        ]
        self._body = body
        self._deadline_s = deadline_s

    async def send(self, number: int) -> str:
        """The gRPC status of the answer, see `client.bench.loops.Call`; or _PUSHED_BACK if it carries a retry time."""
        try:
            await self._methods[number % _CHANNELS](self._body, timeout=self._deadline_s)
        except grpc.aio.AioRpcError as error:
            pushed_back = any(key == PUSHBACK_KEY for key, _ in error.trailing_metadata() or ())
            return _PUSHED_BACK if pushed_back else error.code().name
        return OK

    async def measure(self, load: Load, seconds: float, warmup_s: float = _WARMUP_S) -> Results:
        """Sends a load for some seconds."""
        results, _ = await measure(load, self.send, warmup_s=warmup_s, seconds=seconds, tick=lambda _: False)
        assert results is not None  # no tick stops it early
        return results

    async def close(self) -> None:
        """Closes the connections."""
        for channel in self._channels:
            await channel.close()


def generate_request(model: str, card: Card, rows: int) -> pb.GenerateRequest:
    """A request of `rows` example latents.

    Raises:
        UsageError: the model takes images.
    """
    if not isinstance(card.input, LatentInput):
        raise click.UsageError(f"--model {model}: takes images; choose one that takes latents")
    latents = example_rows(card.input, 0, rows)
    tensor = pb.Tensor(dtype=pb.DATA_TYPE_FLOAT32, shape=latents.shape, data=latents.tobytes())
    return pb.GenerateRequest(model=model, latents=tensor)


def resident_mib(pid: int) -> float:
    """Resident memory of a process (Linux)."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


async def server_goodput(
    address: str,
    pid: int,
    body: bytes,
    rows: int,
    loads: list[float],
    deadlines_s: list[float],
    seconds: float,
    rounds: int,
) -> list[dict[str, Any]]:
    """Measures the capacity in a closed loop, then overloads the server; returns one table row per measurement."""
    table: list[dict[str, Any]] = []

    async def measured(load: Load, deadline_s: float) -> Results:
        sender = Sender(address, body, deadline_s)
        try:
            return await sender.measure(load, seconds)
        finally:
            await sender.close()

    for number in range(1, rounds + 1):
        for deadline_s in deadlines_s:
            capacity = await measured(ClosedLoad(rows, _CALLERS), 60.0)
            table.append(_row(f"{number}: capacity", 60.0, capacity, capacity.images_per_s, pid))
            for load in loads:
                results = await measured(OpenLoad(rows, load * capacity.images_per_s / rows, "poisson"), deadline_s)
                table.append(_row(f"{number}: {load:g} times as much", deadline_s, results, capacity.images_per_s, pid))
    return table


def _row(name: str, deadline_s: float, results: Results, capacity: float, pid: int) -> dict[str, Any]:
    errors = Counter(results.errors)
    pushed_back, not_sent = errors.pop(_PUSHED_BACK, 0), errors.pop(NOT_SENT, 0)
    late, refused = errors.pop("DEADLINE_EXCEEDED", 0), pushed_back + errors.pop("RESOURCE_EXHAUSTED", 0)
    return {
        "round": name,
        "deadline s": deadline_s,
        "images/s answered": round(results.images_per_s),
        "goodput": results.images_per_s / capacity,
        "p99 s": (results.p99_ms or math.nan) / 1e3,
        "answered": results.answered,
        "refused": refused,
        _PUSHED_BACK: pushed_back,
        "late or expired": late,
        "not sent": not_sent,
        "failed otherwise": errors.total(),
        "server MiB": round(resident_mib(pid)),
    }


def _numbers(_: click.Context, __: click.Parameter, value: str) -> list[float]:
    try:
        return [float(number) for number in value.split(",")]
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 1,5") from error


@click.command()
@click.option("--part", type=click.Choice(["batcher", "server", "both"]), default="both", show_default=True)
@click.option("--times", "loads", default="1,2,5,10", callback=_numbers, show_default=True, help="Loads, as multiples.")
@click.option("--deadlines", "deadlines_s", default="0.5,1,5", callback=_numbers, show_default=True, help="Seconds.")
@click.option("--model", default="dcgan", show_default=True)
@click.option("--preset", default="dcgan64-k4", show_default=True)
@click.option("--rows", type=click.IntRange(1, 1024), default=64, show_default=True, help="Rows per request.")
@click.option("--seconds", type=float, default=10.0, show_default=True, help="Seconds per measurement.")
@click.option("--rounds", type=int, default=3, show_default=True, help="Rounds with the server.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON file; another ends in -batcher.")
def main(
    part: str,
    loads: list[float],
    deadlines_s: list[float],
    model: str,
    preset: str,
    rows: int,
    seconds: float,
    rounds: int,
    out: Path | None,
) -> None:
    """Measures goodput under overload."""
    if part != "server":
        source = random.Random(7)
        kinds: tuple[tuple[str, Callable[[], int]], ...] = (
            ("16", lambda: 16),
            ("1 to 200", lambda: source.randint(1, 200)),
        )
        table = [
            asyncio.run(batcher_goodput(name, draw_rows, load, deadline_s, seconds))
            for name, draw_rows in kinds
            for deadline_s in deadlines_s
            for load in loads
        ]
        batcher_out = None if out is None else out.with_stem(f"{out.stem}-batcher")
        report("the batcher, with an engine that sleeps 1 ms per row", table, batcher_out)
    if part == "batcher":
        return
    with tempfile.TemporaryDirectory() as repository:
        _, card = publish_untrained(Path(repository), model, preset)
        body = generate_request(model, card, rows).SerializeToString()
        with server_process(Path(repository)) as (process, address):
            table = asyncio.run(server_goodput(address, process.pid, body, rows, loads, deadlines_s, seconds, rounds))
    report(f"{preset}, {rows} rows per request, on the CPU", table, out)
    for deadline_s in deadlines_s:
        for load in loads:
            wanted = (f"{load:g} times as much", deadline_s)
            shares = [row["goodput"] for row in table if (row["round"].split(": ")[1], row["deadline s"]) == wanted]
            click.echo(f"{wanted[0]}, deadline {deadline_s:g} s: goodput {statistics.median(shares):.2f} (median)")


if __name__ == "__main__":
    main()
