"""Plans capacity from measurements: measures costs, checks the simulation against a load curve, and plans replicas.

    python -m benchmarks.scaling measure --model gan28 --out gan28.costs.json
    python -m benchmarks.serve_peers --peers ours --model gan28 --cells 1x128 --open-loop gan28:RATE --out curve.json
    python -m benchmarks.scaling check --costs gan28.costs.json --curve curve.json --out gan28.check.json
    python -m benchmarks.scaling chart gan28.check.json --out curves.svg
    python -m benchmarks.scaling plan --costs gan28.costs.json --out gan28.plan.json

`measure` and `serve_peers` need an idle machine. docs/scaling.md has the results.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from benchmarks.report import machine, report
from benchmarks.scaling.chart import draw
from benchmarks.scaling.check import COMPARED, CurveError, compare
from benchmarks.scaling.costs import ModelCosts
from benchmarks.scaling.measure import measure
from benchmarks.scaling.plan import find_capacity, front_limit_per_s, needs

_FILE = click.Path(dir_okay=False, path_type=Path)
_THERE = click.Path(dir_okay=False, exists=True, path_type=Path)


@click.group(context_settings={"show_default": True})
def main() -> None:
    """Plans capacity from measurements."""


@main.command("measure")
@click.option("--model", default="gan28")
@click.option("--out", type=_FILE, required=True, help="JSON file to write.")
def measure_command(model: str, out: Path) -> None:
    """Measures what a model costs on this machine, which must be idle."""
    costs, raw = measure(model)
    costs.save(out, measured=raw, machine=machine(), when=time.strftime("%Y-%m-%d %H:%M"))
    click.echo(costs)


@main.command("check")
@click.option("--costs", "costs_file", type=_THERE, required=True, help="Written by `measure`.")
@click.option("--curve", "curves", type=_THERE, required=True, multiple=True, help="Written by serve_peers.")
@click.option("--out", type=_FILE, required=True, help="JSON file to write.")
def check_command(costs_file: Path, curves: tuple[Path, ...], out: Path) -> None:
    """Compares the simulation with measured open loops."""
    costs = ModelCosts.load(costs_file)
    try:
        rows = compare(costs, curves)
    except CurveError as error:
        raise click.ClickException(str(error)) from error
    shown = [
        {"requests/s": f"{row['rate_per_s']:g} ({row['load']})", "rounds": row["rounds"], "failed": row["failed"]}
        | {f"{name}: measured / simulated": _both(row, name) for name in COMPARED.values()}
        for row in rows
    ]
    report(f"{costs.model}: measured and simulated", shown, None)
    out.write_text(json.dumps({"model": costs.model, "rows": rows}, indent=1) + "\n")


def _both(row: Mapping[str, Any], name: str) -> str:
    return f"{row[name]:,.4g} / {row[f'{name} simulated']:,.4g} ({row[f'{name} error']:+.0%})"


@main.command("chart")
@click.argument("checks", type=_THERE, nargs=-1, required=True)
@click.option("--out", type=_FILE, required=True, help="SVG or PNG file to write.")
def chart_command(checks: tuple[Path, ...], out: Path) -> None:
    """Draws what `check` wrote."""
    documents = [json.loads(path.read_text()) for path in checks]
    draw({document["model"]: document["rows"] for document in documents}, out)


@main.command("plan")
@click.option("--costs", "costs_file", type=_THERE, required=True, help="Written by `measure`.")
@click.option("--rows", default="1,64", help="Rows of a request.")
@click.option("--images-per-s", default="100,10000,1000000")
@click.option("--p99-ms", type=click.FloatRange(0, min_open=True), default=100.0, help="Limit of the latency.")
@click.option("--share", type=click.FloatRange(0, 1, min_open=True), default=0.4, help="Of what a replica can carry.")
@click.option("--requests", type=click.IntRange(100), default=10_000, help="To simulate for each rate.")
@click.option("--price", type=click.FloatRange(0, min_open=True), default=0.04, help="Of a core for an hour.")
@click.option("--out", type=_FILE, required=True, help="JSON file to write.")
def plan_command(
    *,
    costs_file: Path,
    rows: str,
    images_per_s: str,
    p99_ms: float,
    share: float,
    requests: int,
    price: float,
    out: Path,
) -> None:
    """Finds what a replica carries, and what loads need. The load generator runs elsewhere."""
    costs = ModelCosts.load(costs_file)
    replicas: list[dict[str, Any]] = []
    loads: list[dict[str, Any]] = []
    for count in map(int, rows.split(",")):
        try:
            found = find_capacity(costs, count, p99_ms, share, requests)
        except ValueError as error:
            raise click.ClickException(str(error)) from error
        replicas.append(
            {
                "rows": count,
                "images/s at limit": found.requests_per_s * count,
                "busiest": found.limit,
                "loop": f"{found.at_limit.loop_busy:.0%}",
                "cores": f"{found.at_limit.cores_busy:.0%}",
                "planned images/s": found.images_per_s,
                "p50 ms": found.planned.p50_ms,
                "p99 ms": found.planned.p99_ms,
                "MB/s": found.images_per_s * costs.answer_bytes / 1e6,
                "front alone, images/s": front_limit_per_s(costs, count) * count,
            }
        )
        for load in map(float, images_per_s.split(",")):
            need = needs(costs, found, load, price)
            loads.append({"rows": count} | need._asdict())
    report(f"{costs.model}: one replica of {costs.cores} cores, p99 within {p99_ms:g} ms", replicas, None)
    shown = [load | {"price_per_million": f"{load['price_per_million']:.3g}"} for load in loads]
    report(f"{costs.model}: replicas at {share:.0%}, one of them spare, {price:g} per core and hour", shown, None)
    settings = {"p99_ms": p99_ms, "share": share, "price": price}
    document = {"model": costs.model, "settings": settings, "replicas": replicas, "loads": loads}
    out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
