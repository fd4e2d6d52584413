"""What a server still answers when it is asked for far more than it can compute.

    python -m benchmarks.overload [--model dcgan] [--preset dcgan64-k4] [--rows 16] [--times 5] [--seconds 10]

First the capacity: a few callers who each wait for their answer. Then requests at so many times that rate, whatever has
been answered (open loop, Poisson), in turn, for some rounds. Goodput is what was answered with images a second. Client
and server share the machine, so the client's work, which grows with the refusals, is missing from the goodput, too.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click
import grpc
import numpy as np

from benchmarks.report import report
from benchmarks.serving import publish_untrained, server_process
from exporter.bundle import LatentInput, example_rows
from ganserve.v1 import generator_pb2 as pb
from server.answering import PUSHBACK_KEY

_CALLERS = 8
_CHANNELS = 4
_OPTIONS = [("grpc.max_receive_message_length", -1)]


class Outcome:
    """What came of the requests of one measurement."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.pushed_back = 0
        self.answered_s: list[float] = []

    async def send(self, method: Any, body: bytes) -> None:
        """Sends one request, and notes what comes of it."""
        began = time.perf_counter()
        try:
            await method(body, timeout=60)
        except grpc.aio.AioRpcError as error:
            self.statuses[error.code().name] += 1
            self.pushed_back += any(key == PUSHBACK_KEY for key, _ in error.trailing_metadata() or ())
        else:
            self.statuses["OK"] += 1
            self.answered_s.append(time.perf_counter() - began)


async def closed_loop(methods: list[Any], body: bytes, seconds: float) -> tuple[Outcome, float]:
    """Returns what came of it, and how long it took."""
    outcome, began = Outcome(), time.perf_counter()

    async def call(method: Any) -> None:
        while time.perf_counter() - began < seconds:
            await outcome.send(method, body)

    await asyncio.gather(*(call(methods[number % len(methods)]) for number in range(_CALLERS)))
    return outcome, time.perf_counter() - began


async def open_loop(methods: list[Any], body: bytes, rate: float, seconds: float) -> tuple[Outcome, int, float]:
    """Returns what came of it, what was answered before the last request was sent, and the time until then."""
    outcome, tasks = Outcome(), []
    gaps = np.random.default_rng(0).exponential(1 / rate, round(2 * rate * seconds))
    began = time.perf_counter()
    for number, due in enumerate(gaps.cumsum()):
        if due > seconds:
            break
        if (early := began + due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        tasks.append(asyncio.create_task(outcome.send(methods[number % len(methods)], body)))
    answered, taken = outcome.statuses["OK"], time.perf_counter() - began
    await asyncio.gather(*tasks)
    return outcome, answered, taken


def resident_mib(pid: int) -> float:
    """Memory of a process, on Linux."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


async def measure(
    address: str, pid: int, body: bytes, rows: int, times: float, seconds: float, rounds: int
) -> list[dict[str, Any]]:
    """One row of the table a measurement."""
    channels = [grpc.aio.insecure_channel(address, [*_OPTIONS, ("ganserve.channel", n)]) for n in range(_CHANNELS)]
    methods: list[Any] = [channel.unary_unary("/ganserve.v1.Generator/Generate") for channel in channels]
    await closed_loop(methods, body, 2)
    table: list[dict[str, Any]] = []
    for number in range(1, rounds + 1):
        outcome, taken = await closed_loop(methods, body, seconds)
        capacity = outcome.statuses["OK"] * rows / taken
        table.append(_row(f"{number}: capacity", outcome, capacity, capacity, pid))
        rate = times * capacity / rows
        outcome, answered, taken = await open_loop(methods, body, rate, seconds)
        table.append(_row(f"{number}: {times:g} times as much", outcome, answered * rows / taken, capacity, pid))
    for channel in channels:
        await channel.close()
    return table


def _row(name: str, outcome: Outcome, goodput: float, capacity: float, pid: int) -> dict[str, Any]:
    return {
        "round": name,
        "images/s answered": round(goodput),
        "of capacity": goodput / capacity,
        "answered": outcome.statuses["OK"],
        "refused": outcome.statuses["RESOURCE_EXHAUSTED"],
        "told when to return": outcome.pushed_back,
        "failed otherwise": outcome.statuses.total() - outcome.statuses["OK"] - outcome.statuses["RESOURCE_EXHAUSTED"],
        "p99 s of answered": float(np.percentile(outcome.answered_s, 99)),
        "server MiB": round(resident_mib(pid)),
    }


@click.command()
@click.option("--model", default="dcgan", show_default=True)
@click.option("--preset", default="dcgan64-k4", show_default=True)
@click.option("--rows", type=click.IntRange(1, 1024), default=16, show_default=True, help="Of each request.")
@click.option("--times", type=float, default=5.0, show_default=True, help="How many times the capacity is asked for.")
@click.option("--seconds", type=float, default=10.0, show_default=True, help="For one measurement.")
@click.option("--rounds", type=int, default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="A JSON file to write.")
def main(model: str, preset: str, rows: int, times: float, seconds: float, rounds: int, out: Path | None) -> None:
    """Measures goodput and memory under more load than can be served."""
    with tempfile.TemporaryDirectory() as repository:
        _, card = publish_untrained(Path(repository), model, preset)
        if not isinstance(card.input, LatentInput):
            raise click.UsageError(f"--model {model}: takes images; choose one that takes latents")
        latents = example_rows(card.input, 0, rows)
        request = pb.GenerateRequest(model=model)
        request.latents.dtype = pb.DATA_TYPE_FLOAT32
        request.latents.shape.extend(latents.shape)
        request.latents.data = latents.tobytes()
        with server_process(Path(repository)) as (process, address):
            body = request.SerializeToString()
            table = asyncio.run(measure(address, process.pid, body, rows, times, seconds, rounds))
    report(f"{preset}, {rows} rows a request, on the CPU", table, out)
    shares = [row["of capacity"] for row in table if "times" in row["round"]]
    click.echo(f"goodput at {times:g} times the capacity: {statistics.median(shares):.2f} of it (median)")


if __name__ == "__main__":
    main()
