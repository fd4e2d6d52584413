"""The models of --models, which a command loads by itself instead of asking a server."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click
from click.core import ParameterSource

from client.commands.progress import waiting
from client.errors import one_line
from client.sdk.local_client import LocalClient
from client.sdk.local_connection import LocalConnection

_SERVER_FLAGS: Final = (
    "address",
    "tls",
    "tls_roots",
    "tls_key",
    "tls_certificate",
    "tls_server_name",
    "token_file",
)


class _Warnings(logging.Handler):
    """Prints the warnings of the server's code, each as one line on stderr; a progress bar there stays below them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one."""
        click.echo(one_line(f"{record.levelname.lower()}: {record.getMessage()}"), err=True)


def refuse_flags_of_servers(context: click.Context) -> None:
    """Checks that no flag says how to connect to a server; variables of the environment may.

    Raises:
        click.UsageError: One does.
    """
    for name in _SERVER_FLAGS:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            flag = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"--models and {flag}: give one of them; --models needs no server")


def local_client(
    models: Path, *, timeout_s: float, in_flight: int, only: Mapping[str, int | None] | None
) -> LocalClient:
    """Loads models; see `LocalClient`."""
    with _loading(models, only):
        return LocalClient(models, timeout_s=timeout_s, in_flight=in_flight, only=only)


def local_connection(models: Path, *, timeout_s: float, only: Mapping[str, int | None] | None) -> LocalConnection:
    """Loads models; see `LocalConnection`."""
    with _loading(models, only):
        return LocalConnection(models, timeout_s=timeout_s, only=only)


def names_in(models: Path) -> list[str]:
    """The names of the models in a repository, without loading any; empty if it cannot be read."""
    try:
        from ganserve.bundle import BundleError, list_models  # needs msgspec, which a client may lack
    except ImportError:
        return []
    try:
        return list_models(models)
    except (BundleError, OSError):
        return []


@contextmanager
def _loading(models: Path, only: Mapping[str, int | None] | None) -> Iterator[None]:
    """Tells what takes so long, on a terminal."""
    log = logging.getLogger("server")
    if not any(isinstance(handler, _Warnings) for handler in log.handlers):
        log.addHandler(_Warnings(logging.WARNING))
    what = "the models" if only is None else ", ".join(only)
    with waiting(f"loading {what} in {click.format_filename(models)} ..."):
        yield
