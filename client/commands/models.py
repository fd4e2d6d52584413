"""`ganclient models`: what the server serves."""

from __future__ import annotations

import dataclasses
import json
import sys

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from client.commands.options import server_options
from client.model_info import ModelInfo
from client.sdk import GanClient

_HEADER = ("name", "version", "kind", "dataset", "input", "image", "device", "backend")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every field that the server gives.")
@server_options
def models(as_json: bool, address: str, timeout_s: float) -> None:
    """Lists the models that the server is ready to serve.

    The input column is what a model turns into an image: a latent of so many numbers, or another image. Images are
    width x height x channels. A model for a task that only newer clients know has a dash in both places.
    """
    with GanClient(address, timeout_s=timeout_s) as client:
        served = client.models()
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(model) for model in served], indent=2))
    elif not served:
        click.echo(f"no models are served at {address}", err=True)
    elif sys.stdout.isatty():
        _print_table([_cells(model) for model in served])
    else:
        _print_plain([_HEADER, *(_cells(model) for model in served)])


def _cells(model: ModelInfo) -> tuple[str, ...]:
    """A model's line of the table; a dash stands for an empty cell, so that every line has as many words."""
    cells = (
        model.name,
        str(model.version),
        model.kind,
        model.dataset,
        _input(model),
        _image(model),
        model.device,
        model.backend,
    )
    return tuple(cell or "-" for cell in cells)


def _input(model: ModelInfo) -> str:
    match model.task:
        case "generate":
            return str(model.latent_dim)
        case "translate":
            return f"{model.input_width}x{model.input_height}x{model.input_channels}"
        case "unknown":
            return ""


def _image(model: ModelInfo) -> str:
    return "" if model.task == "unknown" else f"{model.width}x{model.height}x{model.channels}"


def _print_table(lines: list[tuple[str, ...]]) -> None:
    table = Table(*_HEADER)
    for line in lines:
        table.add_row(*(Text(cell) for cell in line))  # Text: no markup of the server's is obeyed
    Console().print(table)


def _print_plain(lines: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
