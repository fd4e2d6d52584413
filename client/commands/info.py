"""`ganclient info`: describes one served model."""

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
from client.sdk.client import GanClient
from client.sdk.model_info import ModelDescription

_TOO_OLD = "the server is older than this client and does not send the model's card"


@click.command()
@click.argument("model", shell_complete=served_names())
@version_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the complete model card.")
@server_options
def info(model: str, version: int | str | None, as_json: bool, connect: ConnectOptions) -> None:
    """Describe a served model.

    Prints its inputs and outputs, data set, training and metrics, how closely the exported files match the trained
    network, and the files. 'ganclient models' lists the models.
    """
    description: ModelDescription | None = None
    with connect.open(GanClient) as client:
        try:
            description = client.describe(model, version)
            listed = description.model
        except UnsupportedByServer:
            listed = client.info(model, version)
            click.echo(_TOO_OLD, err=True)
    if as_json:
        facts: dict[str, Any] = {field.name: None for field in dataclasses.fields(ModelDescription)}
        facts |= {"model": dataclasses.asdict(listed)} if description is None else dataclasses.asdict(description)
        click.echo(json.dumps(facts, indent=2))
        return
    for index, section in enumerate(sections_of(listed, description)):
        if index:
            click.echo()
        print_section(section.title, section.lines)
