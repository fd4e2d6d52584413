"""`ganclient versions`: lists the versions in the server's model repository."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import click

from client.commands.model_options import served_names
from client.commands.options import ConnectOptions, connection_options
from client.commands.tables import print_table
from client.sdk.model_control import VersionInfo

_HEADER = ("model", "version", "state", "default", "labels", "reason")


@click.command()
@click.argument("model", required=False, shell_complete=served_names())
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@connection_options
def versions(model: str | None, as_json: bool, connect: ConnectOptions) -> None:
    """List the versions in the server's model repository, of one model or of all.

    The default column shows which version answers requests that name none: 'newest', or 'chosen' after 'ganclient load
    --version' or 'ganclient rollback'. The reason column says why a version is not served.
    """
    with connect.client() as client:
        print_versions(client.versions(model), as_json=as_json)


def print_versions(listed: Sequence[VersionInfo], *, as_json: bool) -> None:
    """Prints versions as a table or as JSON."""
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(version) for version in listed], indent=2))
    else:
        print_table(_HEADER, [_cells(version) for version in listed])


def _cells(version: VersionInfo) -> tuple[str, ...]:
    """A version's row of the table; an empty cell becomes a dash."""
    default = ("chosen" if version.is_chosen else "newest") if version.is_default else ""
    cells = (
        version.model,
        str(version.version),
        version.state,
        default,
        ",".join(version.labels),
        version.reason,
    )
    return tuple(cell or "-" for cell in cells)
