"""`ganclient explore`: the latent explorer in the browser."""

from __future__ import annotations

import dataclasses

import click

from client.commands.options import ConnectOptions, server_options, whole_number
from client.explore.commands_text import Commands
from client.explore.explorer import Explorer
from client.explore.page_server import HOST, listening_socket, page_server
from client.explore.watch import Watch
from client.sdk.client import GanClient

_CHECK_TIMEOUT_S = 3.0  # how soon the page reports that the server is gone
_OTHER_FLAGS = ("tls_roots", "tls_key", "tls_certificate", "tls_server_name", "token_file")


@click.command()
@click.option(
    "--port",
    type=whole_number(0, 65535),
    metavar="INTEGER",
    default=7860,
    show_default=True,
    help="Port of the page; 0 picks a free port.",
)
@click.option("--open", "open_page", is_flag=True, help="Open the page in the browser.")
@server_options
def explore(port: int, open_page: bool, connect: ConnectOptions) -> None:
    """Explore models on a web page.

    The page shows samples, sliders, morphs, traversals, comparisons and translations. It is reachable from this machine
    only, and loads nothing from other hosts. Press Ctrl-C to stop.
    """
    checks = dataclasses.replace(connect, timeout_s=min(connect.timeout_s, _CHECK_TIMEOUT_S))
    commands = Commands(connection_flags(connect))
    with listening_socket(port) as sock, connect.open(GanClient) as client, checks.open(GanClient) as checking:
        page = f"http://{HOST}:{sock.getsockname()[1]}/"

        def ready() -> None:
            click.echo(f"exploring {connect.address} at {page} (press Ctrl-C to stop)")
            if open_page:
                click.launch(page)

        page_server(Explorer(client, Watch(checking), commands), ready).run(sockets=[sock])


def connection_flags(connect: ConnectOptions) -> list[str]:
    """The flags that connect another command to the same server; they may name a token file, but never hold a token."""
    flags = ["--address", connect.address]
    flags += ["--tls"] if connect.tls else []
    for name in _OTHER_FLAGS:
        if (value := getattr(connect, name)) is not None:
            flags += [f"--{name.replace('_', '-')}", str(value)]
    return flags
