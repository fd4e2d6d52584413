"""`ganclient bench`: measures the throughput and latency of the server under chosen loads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Final, get_args

import click

from client.bench.loads import Arrivals, ClosedLoad, Load, OpenLoad
from client.bench.requests import check_rows
from client.bench.session import Measurement, Plan, run
from client.commands.bench_report import facts, line, remarks, rows_of, show_table
from client.commands.interrupts import Interrupts
from client.commands.model_options import model_options
from client.commands.options import ConnectOptions, listed, number_of, server_options, whole_number, writable
from client.commands.progress import TimeProgress
from client.errors import GanClientError
from client.files.images import check_output_file, save_file
from client.sdk.messages import AnyFormat, FileFormat, PixelFormat

_INTERRUPTED: Final = 130
_MAX_CONCURRENCY: Final = 4096
_MAX_ROWS: Final = 65_536
_MAX_RATE_PER_S: Final = 100_000.0
_MAX_LOADS: Final = 100
_MAX_SECONDS: Final = 86_400.0
_DEFAULT_CONCURRENCY: Final = (1, 8, 32)
_CONNECTIONS: Final = 4
_STDOUT: Final = Path("-")


@click.command()
@model_options()
@click.option(
    "--concurrency",
    type=listed(whole_number(1, _MAX_CONCURRENCY)),
    metavar="LIST",
    help="Closed loop: numbers of concurrent requests.  [default: 1,8,32; none with --rate]",
)
@click.option(
    "--rate",
    "rates_per_s",
    type=listed(number_of("requests per second", 0.01, _MAX_RATE_PER_S)),
    metavar="LIST",
    help="Open loop: requests per second, however slow the responses. Latency counts from the scheduled time.",
)
@click.option(
    "--arrivals",
    type=click.Choice(get_args(Arrivals)),
    default="poisson",
    show_default=True,
    help="Arrivals of an open loop: random, as from independent users, or evenly spaced.",
)
@click.option(
    "--rows",
    type=listed(whole_number(1, _MAX_ROWS)),
    metavar="LIST",
    default="1",
    show_default=True,
    help="Numbers of images per request.",
)
@click.option(
    "--seconds",
    type=number_of("seconds", 0.1, _MAX_SECONDS),
    metavar="SECONDS",
    default=10.0,
    show_default=True,
    help="Duration of each measurement.",
)
@click.option(
    "--warmup-s",
    type=number_of("seconds", 0.0, _MAX_SECONDS),
    metavar="SECONDS",
    default=2.0,
    show_default=True,
    help="Warm-up before each measurement.",
)
@click.option(
    "--format",
    "image_format",
    type=click.Choice([*get_args(PixelFormat), *get_args(FileFormat)]),
    default="pixels",
    show_default=True,
    help="Image format to request.",
)
@click.option(
    "--connections",
    type=whole_number(1, 64),
    metavar="INTEGER",
    default=_CONNECTIONS,
    show_default=True,
    help="Number of connections to the server.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    callback=writable(lambda path: None if path == _STDOUT else check_output_file(path)),
    help="Also write the results to FILE as JSON; - prints JSON instead of the table.",
)
@server_options
def bench(
    model: str,
    concurrency: tuple[int, ...] | None,
    rates_per_s: tuple[float, ...] | None,
    arrivals: Arrivals,
    rows: tuple[int, ...],
    seconds: float,
    warmup_s: float,
    image_format: AnyFormat,
    version: int | str | None,
    connections: int,
    json_file: Path | None,
    connect: ConnectOptions,
) -> None:
    """Measure the throughput and latency of the server.

    Each value of --rows is measured under each load; a LIST is separated by commas. Failed requests are counted by gRPC
    status and not retried. Latencies cover all answered requests that were due during the measurement. A server on this
    machine shares the processor with the client.
    """
    loads = _loads(concurrency, rates_per_s, arrivals, rows)
    with connect.client() as client:
        served = client.info(model, version)
    for number in rows:
        check_rows(served, number)
    endpoint = connect.endpoint(channels=connections)
    plan = Plan(served, loads, image_format, warmup_s, seconds)
    measurements: list[Measurement] = []
    stopped: GanClientError | None = None
    is_complete = False
    with Interrupts() as interrupts, TimeProgress(model, len(loads) * (warmup_s + seconds)) as progress:

        def tick(load: Load, passed_s: float) -> bool:
            before_s = len(measurements) * (warmup_s + seconds)
            progress.show(f"{model}, {load}, {rows_of(load)}", before_s + min(passed_s, warmup_s + seconds))
            return interrupts.asked

        def done(measurement: Measurement) -> None:
            measurements.append(measurement)
            if measurement.is_complete and len(measurements) < len(loads):
                progress.say(line(measurement))

        try:
            is_complete = run(plan, replace(endpoint, retries=False), tick, done)
        except GanClientError as error:
            stopped = error
    _report(plan, connect.address, measurements, json_file, is_complete=is_complete)
    if stopped is not None:
        left = f"; {len(measurements)} of {len(loads)} loads were measured" if measurements else ""
        raise type(stopped)(f"{stopped}{left}") from stopped
    if not is_complete:
        click.echo(f"interrupted; {len(measurements)} of {len(loads)} loads were measured, the last in part", err=True)
        click.get_current_context().exit(_INTERRUPTED)


def _loads(
    concurrency: tuple[int, ...] | None,
    rates_per_s: tuple[float, ...] | None,
    arrivals: Arrivals,
    rows: tuple[int, ...],
) -> list[Load]:
    if concurrency is None:
        concurrency = () if rates_per_s else _DEFAULT_CONCURRENCY
    loads: list[Load] = [ClosedLoad(*pair) for pair in product(rows, concurrency)]
    loads += [OpenLoad(number, rate_per_s, arrivals) for number, rate_per_s in product(rows, rates_per_s or ())]
    loads = list(dict.fromkeys(loads))
    if len(loads) > _MAX_LOADS:
        raise click.UsageError(f"--rows, --concurrency, --rate: give at most {_MAX_LOADS} loads, not {len(loads)}")
    return loads


def _report(
    plan: Plan, address: str, measurements: Sequence[Measurement], json_file: Path | None, *, is_complete: bool
) -> None:
    """Prints and writes the measurements, complete or not."""
    if measurements and json_file != _STDOUT:
        show_table(measurements)
        for remark in remarks(measurements):
            click.echo(remark, err=True)
    if json_file is None:
        return
    text = json.dumps(facts(plan, address, measurements, is_complete=is_complete), indent=2)
    if json_file == _STDOUT:
        click.echo(text)
    elif measurements:
        save_file(f"{text}\n".encode(), json_file)
        click.echo(f"{click.format_filename(json_file)}: {len(measurements)} of {len(plan.loads)} loads")
