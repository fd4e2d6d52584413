"""Goodput of an overloaded server.

    python -m benchmarks.overload [--model dcgan] [--preset dcgan64-k4] [--rows 16] [--times 5] [--seconds 10]

Each round measures the capacity in a closed loop with a few callers, then sends requests at a multiple of that rate in
an open loop (Poisson). Goodput is images per second in successful answers.
Client and server share the machine, so the client's work, which grows with the refusals, also lowers the goodput.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import click
import grpc

from benchmarks.report import report
from benchmarks.serving import publish_untrained, server_process
from client.bench.loads import ClosedLoad, Load, OpenLoad
from client.bench.loops import measure
from client.bench.results import NOT_SENT, OK, Results
from ganserve.bundle import LatentInput, example_rows
from ganserve.v1 import generator_pb2 as pb
from server.rpc.handler import PUSHBACK_KEY

_CALLERS = 8
_CHANNELS = 4
_TIMEOUT_S = 60
_WARMUP_S = 1.0
_PUSHED_BACK = "refused with a retry time"
_OPTIONS = [("grpc.max_receive_message_length", -1)]


class Sender:
    """Sends one request over several connections."""

    def __init__(self, address: str, body: bytes) -> None:
        self._channels = [
            grpc.aio.insecure_channel(address, [*_OPTIONS, ("ganserve.channel", number)]) for number in range(_CHANNELS)
        ]
        self._methods: list[Any] = [
            channel.unary_unary("/ganserve.v1.Generator/Generate") for channel in self._channels
        ]
        self._body = body

    async def send(self, number: int) -> str:
        """The gRPC status of the answer, see `client.bench.loops.Call`; or _PUSHED_BACK if it carries a retry time."""
        try:
            await self._methods[number % _CHANNELS](self._body, timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            pushed_back = any(key == PUSHBACK_KEY for key, _ in error.trailing_metadata() or ())
            return _PUSHED_BACK if pushed_back else error.code().name
        return OK

    async def close(self) -> None:
        """Closes the connections."""
        for channel in self._channels:
            await channel.close()


def resident_mib(pid: int) -> float:
    """Resident memory of a process (Linux)."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


async def compare(
    address: str, pid: int, body: bytes, rows: int, times: float, seconds: float, rounds: int
) -> list[dict[str, Any]]:
    """Returns one table row per measurement."""
    table: list[dict[str, Any]] = []
    capacity = 0.0

    async def measured(name: str, load: Load) -> Results:
        sender = Sender(address, body)
        try:
            results, _ = await measure(load, sender.send, warmup_s=_WARMUP_S, seconds=seconds, tick=lambda _: False)
        finally:
            await sender.close()
        assert results is not None  # no tick stops it early
        table.append(_row(name, results, capacity or results.images_per_s, pid))
        return results

    for number in range(1, rounds + 1):
        capacity = 0.0
        capacity = (await measured(f"{number}: capacity", ClosedLoad(rows, _CALLERS))).images_per_s
        await measured(f"{number}: {times:g} times as much", OpenLoad(rows, times * capacity / rows, "poisson"))
    return table


def _row(name: str, results: Results, capacity: float, pid: int) -> dict[str, Any]:
    errors = Counter(results.errors)
    pushed_back, not_sent = errors.pop(_PUSHED_BACK, 0), errors.pop(NOT_SENT, 0)
    refused = pushed_back + errors.pop("RESOURCE_EXHAUSTED", 0)
    return {
        "round": name,
        "images/s answered": round(results.images_per_s),
        "of capacity": results.images_per_s / capacity,
        "answered": results.answered,
        "refused": refused,
        _PUSHED_BACK: pushed_back,
        "not sent": not_sent,
        "failed otherwise": errors.total(),
        "p99 s of answered": (results.p99_ms or math.nan) / 1e3,
        "server MiB": round(resident_mib(pid)),
    }


@click.command()
@click.option("--model", default="dcgan", show_default=True)
@click.option("--preset", default="dcgan64-k4", show_default=True)
@click.option("--rows", type=click.IntRange(1, 1024), default=16, show_default=True, help="Rows per request.")
@click.option("--times", type=float, default=5.0, show_default=True, help="Load as a multiple of the capacity.")
@click.option("--seconds", type=float, default=10.0, show_default=True, help="Seconds per measurement.")
@click.option("--rounds", type=int, default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="JSON file to write.")
def main(model: str, preset: str, rows: int, times: float, seconds: float, rounds: int, out: Path | None) -> None:
    """Measures goodput and memory under overload."""
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
            table = asyncio.run(compare(address, process.pid, body, rows, times, seconds, rounds))
    report(f"{preset}, {rows} rows per request, on the CPU", table, out)
    shares = [row["of capacity"] for row in table if "times" in row["round"]]
    click.echo(f"goodput at {times:g} times the capacity: {statistics.median(shares):.2f} of it (median)")


if __name__ == "__main__":
    main()
