"""`ganclient explore`: the latent explorer in the browser."""

from __future__ import annotations

import dataclasses
import re
import secrets
from contextlib import nullcontext
from pathlib import Path

import click

from client.commands.options import ConnectOptions, connection_options, whole_number
from client.explore.commands_text import Commands
from client.explore.explorer import Explorer
from client.explore.page_server import HOST, Exposure, listening_socket, needs_token, page_server
from client.explore.training_pictures import TrainingPictures
from client.explore.watch import Watch

_CHECK_TIMEOUT_S = 3.0  # how soon the page reports that the server is gone
_OTHER_FLAGS = ("tls_roots", "tls_key", "tls_certificate", "tls_server_name", "token_file")
_HOST_NAME = re.compile(r"[A-Za-z0-9*][A-Za-z0-9.-]*|\[[0-9A-Fa-f:]+\]")
_ROOT_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")


def _root_path(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Callback of --root-path."""
    path = value.rstrip("/")
    if path and not _ROOT_PATH.fullmatch(path):
        raise click.BadParameter(f"must be a path such as /explorer, not {value!r:.60}")
    return path


def _host_names(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Callback of --allow-host."""
    for value in values:
        if not _HOST_NAME.fullmatch(value):
            raise click.BadParameter(f"must be a host name without port, such as gpu.example.org, not {value!r:.60}")
    return values


@click.command()
@click.option(
    "--port",
    type=whole_number(0, 65535),
    metavar="INTEGER",
    default=7860,
    show_default=True,
    help="Port of the page; 0 picks a free port.",
)
@click.option(
    "--host",
    default=HOST,
    show_default=True,
    help="Address to listen on; 0.0.0.0 lets other machines open the page, with a token.",
)
@click.option(
    "--allow-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    callback=_host_names,
    help="Host name by which a proxy serves the page; repeatable. The page then asks for a token.",
)
@click.option(
    "--root-path",
    default="",
    metavar="PATH",
    callback=_root_path,
    help="Path under which a proxy serves the page, such as /explorer.",
)
@click.option(
    "--dataset",
    type=click.Path(exists=True, path_type=Path),
    help="Folder or .zip file of the training pictures, to find those nearest to a generated one.",
)
@click.option("--open", "open_page", is_flag=True, help="Open the page in the browser.")
@connection_options
def explore(
    *,
    port: int,
    host: str,
    allowed_hosts: tuple[str, ...],
    root_path: str,
    dataset: Path | None,
    open_page: bool,
    connect: ConnectOptions,
) -> None:
    """Explore models on a web page.

    The page shows samples, sliders, morphs, traversals, comparisons and translations. Without --host or --allow-host,
    it is reachable from this machine only. It loads nothing from other hosts. Press Ctrl-C to stop.
    """
    token = secrets.token_urlsafe(18) if needs_token(host, allowed_hosts) else ""
    exposure = Exposure(host, allowed_hosts, root_path, token)
    checks = dataclasses.replace(connect, timeout_s=min(connect.timeout_s, _CHECK_TIMEOUT_S))
    commands = Commands(connection_flags(connect))
    pictures = None if dataset is None else TrainingPictures(dataset)
    with (
        listening_socket(port, host) as sock,
        connect.client() as client,
        # Models in this process cannot be gone, and there is one set of them.
        checks.client() if connect.models is None else nullcontext(client) as checking,
    ):
        page = page_address(exposure, sock.getsockname()[1])

        def ready() -> None:
            click.echo(f"exploring {connect.place} at {page} (press Ctrl-C to stop)")
            if open_page:
                click.launch(page)

        click.echo("starting the explorer ...", err=True)  # it takes seconds to import Gradio
        watch = Watch(checking, start_command=commands.start_server())
        page_server(Explorer(client, watch, commands, pictures), ready, exposure).run(sockets=[sock])


def page_address(exposure: Exposure, port: int) -> str:
    """The address of the page, with its token."""
    host = HOST if exposure.hosts == ["*"] else exposure.host
    query = f"?token={exposure.token}" if exposure.token else ""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/{query}"


def connection_flags(connect: ConnectOptions) -> list[str]:
    """The flags that give another command the same models; they may name a token file, but never hold a token."""
    if connect.models is not None:
        return ["--models", str(connect.models)]
    flags = ["--address", connect.address]
    flags += ["--tls"] if connect.tls else []
    for name in _OTHER_FLAGS:
        if (value := getattr(connect, name)) is not None:
            flags += [f"--{name.replace('_', '-')}", str(value)]
    return flags
