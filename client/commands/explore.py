"""`ganclient explore`: the latent explorer in the browser."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import click

from client.commands.number_types import whole_number
from client.commands.options import ConnectOptions, server_options
from client.explore.commands_text import Commands
from client.explore.explorer import Explorer
from client.explore.page_server import HOST, listening_socket, page_server
from client.explore.watch import Watch

_CHECK_TIMEOUT_S = 3.0  # the page says after so long that the server is gone
_FILE_FLAGS = ("tls_roots", "tls_key", "tls_certificate", "tls_server_name", "token_file")


@click.command()
@click.option(
    "--port",
    type=whole_number(0, 65535),
    metavar="INTEGER",
    default=7860,
    show_default=True,
    help="Where the page is, on this machine; 0 takes a free port.",
)
@click.option("--open", "open_page", is_flag=True, help="Open the page in the browser.")
@server_options
def explore(port: int, open_page: bool, connect: ConnectOptions) -> None:
    """Opens a page to explore models in: samples, sliders, morphs, traversals, comparisons and translations.

    Only browsers of this machine reach it, and it loads nothing from other hosts. Ctrl-C ends it.
    """
    checks = dataclasses.replace(connect, timeout_s=min(connect.timeout_s, _CHECK_TIMEOUT_S))
    commands = Commands(connection_flags(click.get_current_context().params))
    with listening_socket(port) as sock, connect.client() as client, checks.client() as checking:
        page = f"http://{HOST}:{sock.getsockname()[1]}/"

        def ready() -> None:
            click.echo(f"the explorer of {connect.address} is at {page} (Ctrl-C ends it)")
            if open_page:
                click.launch(page)

        page_server(Explorer(client, Watch(checking), commands), ready).run(sockets=[sock])


def connection_flags(params: Mapping[str, Any]) -> list[str]:
    """The flags with which another command reaches the same server; of a token its file, never itself."""
    flags = ["--address", params["address"]]
    flags += ["--tls"] if params["tls"] else []
    for name in _FILE_FLAGS:
        if params[name] is not None:
            flags += [f"--{name.replace('_', '-')}", str(params[name])]
    return flags
