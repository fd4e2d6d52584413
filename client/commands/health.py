"""`ganclient health`: whether a server, or one of its models, answers; for probes."""

from __future__ import annotations

import json
from typing import Final

import click

from client.commands.model_options import served_names
from client.commands.options import ConnectOptions, server_options
from client.errors import AccessDenied, GanClientError, InvalidRequest, UnsupportedByServer
from client.sdk.client import GanClient

_TIMEOUT_S: Final = 2.0  # a probe is to tell soon
_STARTING: Final = "the server answers, but is starting or draining"


@click.command(context_settings={"default_map": {"timeout_s": _TIMEOUT_S}})
@click.option(
    "--model",
    help="Ask for this model, rather than for the server: whether it is served, and ready.",
    shell_complete=served_names(),
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@server_options
def health(model: str | None, as_json: bool, connect: ConnectOptions) -> None:
    """Asks whether the server is ready to serve, and prints one line.

    The exit code is 0 if it is, 1 if it is not or cannot be reached, and 2 for a mistake in the flags. The server is
    asked through grpc.health.v1, as the probes of others do too.
    """
    with connect.client() as client:
        try:
            reason = _server_reason(client) if model is None else _model_reason(client, model)
        except (AccessDenied, InvalidRequest):  # the user's mistakes
            raise
        except GanClientError as error:
            reason = str(error)
    if as_json:
        told = {"serving": not reason, "address": connect.address, "model": model, "reason": reason}
        click.echo(json.dumps(told))
    else:
        what = "the server" if model is None else model
        click.echo(f"not serving: {reason}" if reason else f"serving: {what} at {connect.address}")
    if reason:
        click.get_current_context().exit(1)


def _server_reason(client: GanClient) -> str:
    """Why the server does not serve; empty if it does."""
    return "" if client.healthy() else _STARTING


def _model_reason(client: GanClient, model: str) -> str:
    """Why a model is not served; empty if it is. One request, so that a probe waits for one deadline only."""
    try:
        return "" if client.describe(model).ready else f"an engine of {model!r} is being rebuilt"
    except UnsupportedByServer:  # an older server does not say what is being rebuilt
        client.info(model)
        return ""
