"""The connection flags, and the types and callbacks that flags of several subcommands share."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from client.commands.local_models import local_client, local_connection, refuse_flags_of_servers
from client.errors import InvalidRequest, UnwritableOutput
from client.sdk.addresses import DEFAULT_ADDRESS
from client.sdk.channel import DEFAULT_TIMEOUT_S, MAX_TIMEOUT_S, Endpoint, endpoint_of
from client.sdk.client import GanClient
from client.sdk.security import MAX_TOKEN_CHARACTERS, TlsOptions
from client.sdk.transport import BlockingConnection, Connection

_TOKEN_VARIABLE: Final = "GANSERVE_TOKEN"  # noqa: S105  (the name of a variable)

_Command = TypeVar("_Command", bound=Callable[..., Any])
_Number = TypeVar("_Number", int, float)
_Opened = TypeVar("_Opened")


def whole_number(smallest: int, largest: int) -> Callable[[str], int]:
    """The type of a flag whose value is a whole number in `smallest` .. `largest`."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = smallest - 1
        if not smallest <= number <= largest:
            raise click.BadParameter(f"must be a whole number in {smallest} .. {largest}, not {text!r:.60}")
        return number

    return parse


def number_of(unit: str, smallest: float, largest: float) -> Callable[[str], float]:
    """The type of a flag whose value is a number in `smallest` .. `largest`; `unit` is a plural, such as "seconds"."""

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not smallest <= number <= largest:
            raise click.BadParameter(f"must be {unit} in {smallest:g} .. {largest:g}, not {text!r:.60}")
        return number

    return parse


def listed(parse: Callable[[str], _Number], at_most: int = 100) -> Callable[[str], tuple[_Number, ...]]:
    """The type of a flag whose value is 1 .. `at_most` numbers, separated by commas; `parse` reads each."""

    def parse_all(text: str) -> tuple[_Number, ...]:
        parts = text.split(",")
        if len(parts) > at_most:
            raise click.BadParameter(f"must be at most {at_most} numbers, separated by commas, not {len(parts)}")
        return tuple(parse(part.strip()) for part in parts)

    return parse_all


def writable(check: Callable[[Path], None]) -> Callable[[click.Context, click.Parameter, Path | None], Path | None]:
    """Callback of a flag that names a file or folder to write; `check` raises UnwritableOutput."""

    def checked(_ctx: click.Context, _param: click.Parameter, path: Path | None) -> Path | None:
        try:
            if path is not None:
                check(path)
        except UnwritableOutput as error:
            raise click.BadParameter(str(error)) from error
        return path

    return checked


@dataclass(frozen=True)
class ConnectOptions:
    """The values of the flags that `connection_options` adds, under the same names."""

    address: str
    timeout_s: float
    tls: bool
    tls_roots: Path | None
    tls_key: Path | None
    tls_certificate: Path | None
    tls_server_name: str | None
    token_file: Path | None
    models: Path | None = None

    @property
    def place(self) -> str:
        """What the command gets its images from, for messages: the address of the server, or the model repository."""
        return self.address if self.models is None else click.format_filename(self.models)

    def client(self, *, in_flight: int = 1, model: str | None = None, version: int | str | None = None) -> GanClient:
        """Returns a client.

        Args:
            in_flight: How many requests of a large count may be in flight.
            model: The only model that is needed; None if others may be.
            version: The version of it that is needed.

        Raises:
            click.BadParameter: A flag has an invalid value, or a file cannot be read.
            GanClientError: The models of --models cannot be loaded.
        """
        if self.models is None:
            return self._to_server(GanClient, in_flight)
        with _naming_the_flag({"models": "'--models'"}):
            return local_client(
                self.models, timeout_s=self.timeout_s, in_flight=max(2, in_flight), only=_only(model, version)
            )

    def connection(self, *, model: str, version: int | str | None) -> BlockingConnection:
        """Returns a connection for requests to one model; arguments and errors are those of `client`."""
        if self.models is None:
            return self._to_server(Connection, 1)
        with _naming_the_flag({"models": "'--models'"}):
            return local_connection(self.models, timeout_s=self.timeout_s, only=_only(model, version))

    def endpoint(self, *, channels: int) -> Endpoint:
        """Returns where to connect to.

        Raises:
            click.BadParameter: A flag has an invalid value, or a file cannot be read.
        """
        return self._to_server(endpoint_of, channels)

    def _to_server(self, kind: Callable[..., _Opened], channels: int) -> _Opened:
        tls = TlsOptions(self.tls_roots, self.tls_key, self.tls_certificate, self.tls_server_name)
        token = os.environ.get(_TOKEN_VARIABLE) or None if self.token_file is None else _token_in(self.token_file)
        used_tls = tls if self.tls or tls != TlsOptions() else None
        flag_of = _FLAG_OF | ({"token": f"'{_TOKEN_VARIABLE}'"} if self.token_file is None else {})
        with _naming_the_flag(flag_of):
            return kind(self.address, timeout_s=self.timeout_s, channels=channels, tls=used_tls, token=token)


@contextmanager
def _naming_the_flag(flag_of: Mapping[str, str]) -> Iterator[None]:
    """Turns an InvalidRequest that names an argument of the SDK into an error that names the flag.

    Raises:
        click.BadParameter: The argument has an invalid value.
    """
    try:
        yield
    except InvalidRequest as error:
        field, _, reason = str(error).partition(": ")
        hint = flag_of.get(field.split()[0])
        if hint is None:
            raise
        reason = str(error) if field.startswith("address") else reason.replace(": turn TLS on", ": give --tls")
        raise click.BadParameter(reason.replace("client_certificate", "--tls-certificate"), param_hint=hint) from error


def _only(model: str | None, version: int | str | None) -> dict[str, int | None] | None:
    """Which models to load; a label is looked up once its model is loaded."""
    return None if model is None else {model: version if isinstance(version, int) else None}


def server_options(command: _Command) -> _Command:
    """Adds the flags that connect to a server; the command gets their values as `connect`, a ConnectOptions."""
    return _with_flags(command, SERVER_FLAGS)


def connection_options(command: _Command) -> _Command:
    """Like `server_options`, with --models, for commands that can do without a server."""
    return _with_flags(command, CONNECT_FLAGS)


def _with_flags(command: _Command, added: Mapping[str, Callable[[Any], Any]]) -> _Command:
    @functools.wraps(command)
    def with_connect(*args: Any, **flags: Any) -> Any:
        connect = ConnectOptions(**{name: flags.pop(name) for name in added})
        if connect.models is not None:
            refuse_flags_of_servers(click.get_current_context())
        return command(*args, connect=connect, **flags)

    decorated: Any = with_connect
    for option in reversed(list(added.values())):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]  # still a command


def _file(flag: str, text: str) -> Callable[[Any], Any]:
    return click.option(flag, type=click.Path(path_type=Path), metavar="FILE", help=text)


SERVER_FLAGS: Final[dict[str, Callable[[Any], Any]]] = {
    "address": click.option(
        "--address",
        default=DEFAULT_ADDRESS,
        envvar="GANSERVE_ADDRESS",
        show_default=True,
        show_envvar=True,
        metavar="HOST:PORT",
        help="Address of the server, or unix:PATH; requests are balanced over several IP:PORT, separated by commas.",
    ),
    "timeout_s": click.option(
        "--timeout-s",
        type=number_of("seconds", 0.001, MAX_TIMEOUT_S),
        metavar="SECONDS",
        default=DEFAULT_TIMEOUT_S,
        show_default=True,
        help="Deadline of each request.",
    ),
    "tls": click.option("--tls", is_flag=True, help="Use TLS; implied by any other --tls flag."),
    "tls_roots": _file("--tls-roots", "PEM file with the CA certificates to trust.  [default: public CAs]"),
    "tls_key": _file("--tls-key", "PEM file with the client's private key; requires --tls-certificate."),
    "tls_certificate": _file("--tls-certificate", "PEM file with the client's certificate; requires --tls-key."),
    "tls_server_name": click.option(
        "--tls-server-name",
        metavar="NAME",
        help="Host name in the server's certificate.  [default: the host of --address]",
    ),
    "token_file": _file("--token-file", f"File with the bearer token.  [env var: {_TOKEN_VARIABLE}, the token itself]"),
}
CONNECT_FLAGS: Final = SERVER_FLAGS | {
    "models": click.option(
        "--models",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Model repository to load into this process, instead of --address; needs pip install '.[serve]'.",
    ),
}

# The argument that begins an error message of the SDK -> the flag, as click names it.
_FLAG_OF: Final = {
    "address": "'--address' (env var: 'GANSERVE_ADDRESS')",
    "root_certificates": "'--tls-roots'",
    "client_key": "'--tls-key'",
    "client_certificate": "'--tls-certificate'",
    "server_name": "'--tls-server-name'",
    "token": "'--token-file'",
}


def _token_in(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_TOKEN_CHARACTERS + 2)  # longer tokens are invalid; 2 for a line ending
        return content.decode("ascii").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not ASCII text"
        raise click.BadParameter(f"{path} cannot be read ({reason})", param_hint="'--token-file'") from error
