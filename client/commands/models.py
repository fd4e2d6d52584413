"""`ganclient models`: lists the served models."""

from __future__ import annotations

import dataclasses
import json

import click

from client.commands.options import ConnectOptions, connection_options
from client.commands.tables import print_table
from client.sdk.model_info import ModelInfo

_HEADER = ("name", "version", "kind", "dataset", "input", "image", "device", "backend")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all fields that the server sends.")
@connection_options
def models(as_json: bool, connect: ConnectOptions) -> None:
    """List the models that the server is ready to serve.

    The input column shows the size of a latent, or of the input image of an image-to-image model. Image sizes are width
    x height x channels; a dash means that this client does not know the model's task. 'ganclient info MODEL' describes
    one model in detail.
    """
    with connect.client() as client:
        served = client.models()
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(model) for model in served], indent=2))
    elif not served:
        click.echo(f"no models are served at {connect.place}", err=True)
    else:
        print_table(_HEADER, [_cells(model) for model in served])


def _cells(model: ModelInfo) -> tuple[str, ...]:
    """A model's row of the table; an empty cell becomes a dash, so that every row has the same number of words."""
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
