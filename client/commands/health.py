"""`ganclient health`: checks whether a server, or one of its models, is ready; for probes."""

from __future__ import annotations

import json
from typing import Final

import click

from client.commands.model_options import served_names
from client.commands.options import ConnectOptions, connection_options
from client.errors import AccessDenied, GanClientError, InvalidRequest, UnsupportedByServer
from client.sdk.client import GanClient

_TIMEOUT_S: Final = 2.0  # probes need a quick answer
_STARTING: Final = "the server answers, but is starting or draining"


@click.command(context_settings={"default_map": {"timeout_s": _TIMEOUT_S}})
@click.option(
    "--model",
    metavar="NAME",
    help="Check this model instead of the server.",
    shell_complete=served_names(),
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@connection_options
def health(model: str | None, as_json: bool, connect: ConnectOptions) -> None:
    """Check whether the server, or one of its models, is ready.

    Prints one line. Exits with 0 if ready, with 1 if not ready or unreachable, and with 2 for an invalid flag. Uses the
    gRPC health checking protocol, grpc.health.v1.
    """
    with connect.client(model=model) as client:
        try:
            reason = _server_reason(client) if model is None else _model_reason(client, model)
        except (AccessDenied, InvalidRequest):  # mistakes of the user
            raise
        except GanClientError as error:
            reason = str(error)
    if as_json:
        facts = {"serving": not reason, "address": connect.place, "model": model, "reason": reason}
        click.echo(json.dumps(facts))
    else:
        what = "the server" if model is None else model
        click.echo(f"not serving: {reason}" if reason else f"serving: {what} at {connect.place}")
    if reason:
        click.get_current_context().exit(1)


def _server_reason(client: GanClient) -> str:
    """Why the server is not ready; empty if it is."""
    return "" if client.healthy() else _STARTING


def _model_reason(client: GanClient, model: str) -> str:
    """Why a model is not ready; empty if it is. Sends a single request, so that a probe takes at most one deadline."""
    try:
        return "" if client.describe(model).ready else f"an engine of {model!r} is being rebuilt"
    except UnsupportedByServer:  # an older server cannot describe models
        client.info(model)
        return ""
