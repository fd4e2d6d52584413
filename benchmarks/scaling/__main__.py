"""Plans capacity from measurements: `measure` a model's costs, `check` the simulation against a load curve, `plan`.

python -m benchmarks.scaling measure --model gan28 --out gan28.costs.json
python -m benchmarks.serve_peers --peers ours --model gan28 --cells 1x128 --open-loop gan28:RATE,... --out curve.json
python -m benchmarks.scaling check --costs gan28.costs.json --curve curve.json --out gan28.check.json
python -m benchmarks.scaling plan --costs gan28.costs.json --out gan28.plan.json
"""

from __future__ import annotations

import time
from pathlib import Path

import click

from benchmarks.report import machine
from benchmarks.scaling.measure import measure


@click.group(context_settings={"show_default": True})
def main() -> None:
    """Plans capacity from measurements."""


@main.command("measure")
@click.option("--model", default="gan28")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="JSON file to write.")
def measure_command(model: str, out: Path) -> None:
    """Measures what a model costs on this machine, which must be idle."""
    costs, raw = measure(model)
    costs.save(out, measured=raw, machine=machine(), when=time.strftime("%Y-%m-%d %H:%M"))
    click.echo(costs)


if __name__ == "__main__":
    main()
