"""`ganclient info`: what there is to know of one model."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import click

from client.commands.card_page import sections_of
from client.commands.model_options import served_names, version_option
from client.commands.options import ConnectOptions, server_options
from client.commands.tables import print_section
from client.errors import UnsupportedByServer
from client.sdk.model_info import ModelDescription

_TOO_OLD = "the server is older than this client, and tells nothing of the model's card"


@click.command()
@click.argument("model", shell_complete=served_names())
@version_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the model as it is listed, its card and its files.")
@server_options
def info(model: str, version: int | None, as_json: bool, connect: ConnectOptions) -> None:
    """Tells what there is to know of a served model.

    What it takes and gives, the data set, how it was trained and how good it was then, how closely its files match the
    network that was trained, and the files. 'ganclient models' lists the models.
    """
    description: ModelDescription | None = None
    with connect.client() as client:
        try:
            description = client.describe(model, version)
            listed = description.model
        except UnsupportedByServer:
            listed = client.info(model, version)
            click.echo(_TOO_OLD, err=True)
    if as_json:
        told: dict[str, Any] = {field.name: None for field in dataclasses.fields(ModelDescription)}
        told |= {"model": dataclasses.asdict(listed)} if description is None else dataclasses.asdict(description)
        click.echo(json.dumps(told, indent=2))
        return
    for index, section in enumerate(sections_of(listed, description)):
        if index:
            click.echo()
        print_section(section.title, section.lines)
