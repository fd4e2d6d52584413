"""`ganclient info`: describes one served model."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click
from PIL import Image

from client.commands.card_page import sections_of
from client.commands.model_options import served_names, version_option
from client.commands.options import ConnectOptions, connection_options, writable
from client.commands.picture_options import show_in_terminal
from client.commands.tables import print_section
from client.errors import InvalidRequest, UnsupportedByServer, one_line
from client.files.images import check_output, save_image
from client.sdk.client import GanClient
from client.sdk.model_info import ModelDescription, ModelInfo
from ganserve.grids import SAMPLE_SEED, fitting_grid, sample_rows

_TOO_OLD = "the server is older than this client and does not send the model's card"


@click.command()
@click.argument("model", shell_complete=served_names())
@version_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the complete model card.")
@click.option("--preview", is_flag=True, help="Show some images of a generator in the terminal.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    callback=writable(check_output),
    help="Save these images as a picture.",
)
@connection_options
def info(
    model: str, version: int | str | None, as_json: bool, preview: bool, out: Path | None, connect: ConnectOptions
) -> None:
    """Describe a served model.

    Prints its inputs and outputs, data set, license and intended use, training and metrics, how closely the exported
    files match the trained network, and the files. 'ganclient models' lists the models.
    """
    if as_json and preview:
        raise click.UsageError("--preview and --json: both print to stdout; give one of them")
    description: ModelDescription | None = None
    sample: Image.Image | None = None
    with connect.client(model=model, version=version) as client:
        try:
            description = client.describe(model, version)
            listed = description.model
        except UnsupportedByServer:
            listed = client.info(model, version)
            click.echo(_TOO_OLD, err=True)
        if preview or out is not None:
            sample = _sample(client, listed)
    if out is not None and sample is not None:
        save_image(sample, out)
    if as_json:
        facts: dict[str, Any] = {field.name: None for field in dataclasses.fields(ModelDescription)}
        facts |= {"model": dataclasses.asdict(listed)} if description is None else dataclasses.asdict(description)
        click.echo(json.dumps(facts, indent=2))
        return
    for index, section in enumerate(sections_of(listed, description)):
        if index:
            click.echo()
        print_section(section.title, section.lines)
    if preview and sample is not None:
        click.echo()
        show_in_terminal(sample)
    if out is not None:
        click.echo(one_line(f"{click.format_filename(out)}: the first images of {listed.name}:{listed.version}"))


def _sample(client: GanClient, served: ModelInfo) -> Image.Image:
    """The first images of one seed, the same as in the folder of the model.

    Raises:
        InvalidRequest: The model is no generator.
    """
    if served.task != "generate":
        raise InvalidRequest(
            f"{served.name!r:.80}: makes images of other images only, so it has no sample; use 'ganclient translate'"
        )
    count = sample_rows(served.height, served.width)
    return fitting_grid(client.generate(served.name, seed=SAMPLE_SEED, count=count, version=served.version))
