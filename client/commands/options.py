"""Flags that several subcommands share, and the types of flags' values."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from client.errors import InvalidRequest, UnwritableOutput
from client.files.images import check_output, check_output_folder
from client.sdk.addresses import DEFAULT_ADDRESS, target_of
from client.sdk.aio_client import AsyncGanClient
from client.sdk.channel import DEFAULT_TIMEOUT_S, MAX_TIMEOUT_S, endpoint_of
from client.sdk.client import GanClient
from client.sdk.security import MAX_TOKEN_CHARACTERS, TlsOptions
from client.sdk.transport import Connection

_TOKEN_VARIABLE: Final = "GANSERVE_TOKEN"  # noqa: S105  (the name of a variable)

_Command = TypeVar("_Command", bound=Callable[..., Any])


def writable_picture(_ctx: click.Context, _param: click.Parameter, path: Path | None) -> Path | None:
    """Callback of a flag that names a picture to write."""
    return _checked(check_output, path)


def writable_folder(_ctx: click.Context, _param: click.Parameter, path: Path | None) -> Path | None:
    """Callback of a flag that names a folder to write to."""
    return _checked(check_output_folder, path)


def _checked(check: Callable[[Path], None], path: Path | None) -> Path | None:
    if path is not None:
        try:
            check(path)
        except UnwritableOutput as error:
            raise click.BadParameter(str(error)) from error
    return path


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MAX_TIMEOUT_S:  # refuses NaN too
        raise click.BadParameter(f"must be seconds, more than 0 and at most {MAX_TIMEOUT_S:g}, not {text!r:.60}")
    return seconds


@dataclass(frozen=True)
class ConnectOptions:
    """What the flags say of the server and the way to it, checked.

    Attributes:
        address: one, or several with commas between; for messages too.
        timeout_s: how long to wait for each answer.
        tls: None: no TLS.
        token: None: none is sent.
    """

    address: str = DEFAULT_ADDRESS
    timeout_s: float = DEFAULT_TIMEOUT_S
    tls: TlsOptions | None = None
    token: str | None = field(default=None, repr=False)

    def client(self, *, channels: int = 1) -> GanClient:
        """Connects."""
        return GanClient(self.address, timeout_s=self.timeout_s, channels=channels, tls=self.tls, token=self.token)

    def async_client(self, *, channels: int = 1) -> AsyncGanClient:
        """Connects at the first call."""
        return AsyncGanClient(self.address, timeout_s=self.timeout_s, channels=channels, tls=self.tls, token=self.token)

    def connection(self) -> Connection:
        """Connects."""
        return Connection(self.address, timeout_s=self.timeout_s, tls=self.tls, token=self.token)


def server_options(command: _Command) -> _Command:
    """Adds the flags that name the server and the way to it; the command gets them as `connect`, a ConnectOptions."""

    @functools.wraps(command)
    def with_connect(*args: Any, **flags: Any) -> Any:
        connect = connect_options({name: flags.pop(name) for name in CONNECT_FLAGS})
        return command(*args, connect=connect, **flags)

    decorated: Any = with_connect
    for option in reversed(CONNECT_FLAGS.values()):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]  # as much a command as before


def connect_options(flags: Mapping[str, Any]) -> ConnectOptions:
    """What these values of the flags of `server_options`, and perhaps others, say together.

    Raises:
        click.UsageError: they do not go together, or a file cannot be read.
    """
    return _connect_options(**{name: flags[name] for name in CONNECT_FLAGS})


def _address(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    try:
        return target_of(value).text
    except InvalidRequest as error:
        raise click.BadParameter(str(error)) from error


def _pem_file(flag: str, text: str) -> Callable[[Any], Any]:
    return click.option(flag, type=click.Path(path_type=Path), metavar="FILE", help=text)


CONNECT_FLAGS: Final[dict[str, Callable[[Any], Any]]] = {
    "address": click.option(
        "--address",
        default=DEFAULT_ADDRESS,
        envvar="GANSERVE_ADDRESS",
        show_default=True,
        show_envvar=True,
        metavar="HOST:PORT",
        callback=_address,
        help="Where the server listens; several IP:PORT with commas between take turns.",
    ),
    "timeout_s": click.option(
        "--timeout-s",
        type=_seconds,
        metavar="SECONDS",
        default=DEFAULT_TIMEOUT_S,
        show_default=True,
        help="How long to wait for each answer of the server.",
    ),
    "tls": click.option("--tls", is_flag=True, help="Use TLS; the other --tls flags turn it on too."),
    "tls_roots": _pem_file("--tls-roots", "Certificates to trust, PEM.  [default: the public authorities]"),
    "tls_key": _pem_file("--tls-key", "This client's private key, PEM; goes with --tls-certificate."),
    "tls_certificate": _pem_file("--tls-certificate", "This client's certificate, PEM; goes with --tls-key."),
    "tls_server_name": click.option(
        "--tls-server-name",
        metavar="NAME",
        help="The name in the server's certificate.  [default: the host of --address]",
    ),
    "token_file": click.option(
        "--token-file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help=f"A file with a token to send.  [env var: {_TOKEN_VARIABLE}, with the token itself]",
    ),
}

# How the SDK's errors name what the flags above are called.
_FLAG_OF: Final = {
    "root_certificates": "--tls-roots",
    "client_key": "--tls-key",
    "client_certificate": "--tls-certificate",
    "server_name": "--tls-server-name",
}


def _connect_options(
    *,
    address: str,
    timeout_s: float,
    tls: bool,
    tls_roots: Path | None,
    tls_key: Path | None,
    tls_certificate: Path | None,
    tls_server_name: str | None,
    token_file: Path | None,
) -> ConnectOptions:
    if (tls_key is None) != (tls_certificate is None):
        raise click.BadParameter("belongs with --tls-certificate; give both, or none", param_hint="'--tls-key'")
    options = TlsOptions(tls_roots, tls_key, tls_certificate, tls_server_name)
    token = os.environ.get(_TOKEN_VARIABLE) or None if token_file is None else _token_in(token_file)
    source = _TOKEN_VARIABLE if token_file is None else "--token-file"
    connect = ConnectOptions(address, timeout_s, options if tls or options != TlsOptions() else None, token)
    try:
        endpoint_of(address, tls=connect.tls, token=token)
    except InvalidRequest as error:
        field_name, _, reason = str(error).partition(": ")
        flag = source if field_name == "token" else _FLAG_OF.get(field_name)
        if flag is None:
            raise
        raise click.BadParameter(reason.replace(": turn TLS on", ": give --tls"), param_hint=f"'{flag}'") from error
    return connect


def _token_in(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_TOKEN_CHARACTERS + 2)  # what is longer is refused, but for the end of its line
        return content.decode("ascii").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is no ASCII text"
        raise click.BadParameter(f"{path} cannot be read ({reason})", param_hint="'--token-file'") from error
