"""`python -m server`, and its commands `tune` and `fetch`: turns flags into a config and errors into exit codes.

Imports the server and the tuner lazily, so that an invalid flag fails at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from click.types import OptionHelpExtra

from ganserve.command_line import USER_ERROR, version_option
from ganserve.urls import is_url
from server import daemon_threads
from server.config import (
    BACKENDS,
    DEVICES,
    FRONT_NAMES,
    MAX_SECONDS,
    MODEL_CONTROLS,
    PRECISIONS,
    Address,
    ServerConfig,
)
from server.errors import StartupError
from server.flag_sources import CONTEXT_SETTINGS, HELP, SourcedErrors, as_toml, config_option, misspelt_variables
from server.help_sections import SectionedHelp
from server.log_format import LOG_FORMATS, LogFormat, configure_logging
from server.signals import ignore_unexpected_signals

_PACKAGES = (("onnxruntime-gpu", "onnxruntime"), "grpcio")
_SECONDS = click.FloatRange(0.001, MAX_SECONDS)
_METAVARS = {
    "models": "FOLDER|URL",
    "otlp_endpoint": "URL",
    "metrics_address": "HOST:PORT|none",
    "http_address": "HOST:PORT",
}
_SOCKET_OR_PORT = "HOST:PORT|unix:PATH"
_LOG_LEVELS = ("debug", "info", "warning", "error")
_Command = TypeVar("_Command", bound=Callable[..., Any])
_log = logging.getLogger(__name__)
_DEFAULTS = {field.name: field.default for field in fields(ServerConfig)}


class _AddressType(click.ParamType[Address]):
    name = "host:port"

    def __init__(self, *, takes_unix: bool = False) -> None:
        self._takes_unix = takes_unix

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        if isinstance(value, Address):
            return value
        try:
            address = Address.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if address.path and not self._takes_unix:
            self.fail(f"{value!r} is a Unix socket, which only gRPC takes; give HOST:PORT", param, ctx)
        return address


class _AddressOrNoneType(click.ParamType[Address | None]):
    name = "host:port|none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Address | None:
        return None if value == "none" else _AddressType().convert(value, param, ctx)


class _ModelsType(click.ParamType[Path | str]):
    name = "folder|url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        return value if is_url(value) else Path(value)


class _IndicesType(click.ParamType[tuple[int, ...]]):
    name = "indices"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        indices = str(value).split(",")
        if not all(index.isascii() and index.isdecimal() and len(index) <= 4 for index in indices):
            self.fail(f"{value!r} is not a list of indices such as 0,1", param, ctx)
        return tuple(map(int, indices))


class _Option(click.Option):
    """An option whose help leaves out the range of a number, which an error about it gives."""

    def get_help_extra(self, ctx: click.Context) -> OptionHelpExtra:
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        return extra


def _option(name: str, kind: Any, text: str) -> Callable[[_Command], _Command]:
    """A flag for one field of `ServerConfig`, with its default."""
    return click.option(
        f"--{name.replace('_', '-')}",
        name,
        cls=_Option,
        type=kind,
        metavar=_metavar(name, kind),
        default=_DEFAULTS[name],
        show_default=True,
        help=text,
    )


def _metavar(name: str, kind: Any) -> str | None:
    """What the help calls the value of a flag; None leaves it to the type."""
    if name in _METAVARS:
        return _METAVARS[name]
    if isinstance(kind, click.Path) or name == "access_log":
        return "FILE"
    if isinstance(kind, _AddressType):
        return _SOCKET_OR_PORT
    if isinstance(kind, click.FloatRange):
        return "SECONDS"
    if name.endswith("_us"):
        return "MICROSECONDS"
    return "NUMBER" if isinstance(kind, click.IntRange) else None


class _Group(SourcedErrors, SectionedHelp, click.Group):
    """`python -m server`."""


@contextmanager
def _one_line_errors(log_format: LogFormat = "text") -> Iterator[None]:
    try:
        yield
    except StartupError as error:
        if log_format == "json":
            _log.critical("%s", error)
        else:
            click.echo(f"Error: {error}", err=True)
        if daemon_threads.running():  # ONNX Runtime aborts the process if a thread still computes when Python ends
            sys.stdout.flush()
            os._exit(USER_ERROR)
        sys.exit(USER_ERROR)


def _announce(line: str) -> None:
    """Prints a line, or logs it: a closed pipe or a full disk is no reason to stop serving."""
    try:
        click.echo(line)
    except OSError as error:
        sys.stdout = None  # or Python would fail to flush it at the end
        _log.warning("stdout cannot be written (%s)", error.strerror)
    if sys.stdout is None:
        _log.info("%s", line)


def _config(flags: dict[str, Any], *, follow: bool) -> ServerConfig:
    """The config from flags, with models at a URL fetched into a folder.

    Args:
        flags: By field.
        follow: Fetch again later if the server follows the folder.

    Raises:
        StartupError: The models cannot be fetched.
    """
    models: Path | str = flags["models"]
    if isinstance(models, str):
        from server.remote.command import local_copy

        every_s = flags["poll_s"] if follow and flags["model_control"] == "poll" else None
        models = local_copy(models, every_s, _announce)
    return ServerConfig(**{**flags, "models": models})


_show_config = click.option(
    "--show-config",
    is_flag=True,
    allow_from_autoenv=False,
    help="Print the settings in effect, as a file for --config, and exit.",
)

_log_format = click.option(
    "--log-format", type=click.Choice(LOG_FORMATS), default="text", show_default=True, help="Format of the log."
)


@click.group(cls=_Group, invoke_without_command=True, context_settings=CONTEXT_SETTINGS, epilog=HELP)
@config_option
@_option("models", _ModelsType(), "Model repository to serve; one at a URL is fetched first.")
@_option("address", _AddressType(takes_unix=True), "Address for gRPC; port 0 picks a free port.")
@_option(
    "admin_address",
    _AddressType(takes_unix=True),
    "Address for loading and unloading models, instead of --address.",
)
@_option("http_address", _AddressType(), "Address for inference and pictures over HTTP; none by default.")
@_option("metrics_address", _AddressOrNoneType(), "Address for metrics and health over HTTP; none opens no HTTP port.")
@_option("tls_certificate", click.Path(path_type=Path), "PEM file with the server's certificate and its chain.")
@_option("tls_key", click.Path(path_type=Path), "PEM file with the private key of the certificate.")
@_option("tls_client_ca", click.Path(path_type=Path), "PEM file with the authorities that sign clients' certificates.")
@_option("token_file", click.Path(path_type=Path), "File with the tokens that callers must send, one per line.")
@_option(
    "admin_token_file",
    click.Path(path_type=Path),
    "File with tokens for loading and unloading models, one per line.",
)
@_option("device", click.Choice(DEVICES), "Device to compute on; auto uses CUDA if it is available.")
@_option("cuda_devices", _IndicesType(), "CUDA devices to use, for example 0,1.  [default: all]")
@click.option("--cuda-graphs", is_flag=True, help="Replay each batch size as a CUDA graph.")
@_option("backend", click.Choice(BACKENDS), "ONNX Runtime, or PyTorch for TorchScript files, which contain code.")
@_option("precision", click.Choice(PRECISIONS), "bf16 computes large batches on the CPU, fp16 all batches on CUDA.")
@_option("cores", click.IntRange(1, 1024), "Cores to use.  [default: all that the process may use]")
@_option("engines", click.IntRange(1, 256), "Engines that run in parallel on the CPU.  [default: by cores]")
@_option(
    "model_control",
    click.Choice(MODEL_CONTROLS),
    "explicit lets clients load and unload models; poll also follows the repository.",
)
@_option(
    "poll_s", click.FloatRange(0.1, 86_400), "Seconds between two scans of the repository, with --model-control poll."
)
@_option("max_batch_size", click.IntRange(1, 1 << 16), "Most rows per batch.")
@_option(
    "max_queue_delay_us",
    click.IntRange(0, 60_000_000),
    "Longest time that a row waits for a fuller batch.  [default: by load]",
)
@_option("max_queue_rows", click.IntRange(1, 1 << 24), "Most waiting rows per model; more requests are refused.")
@_option("max_request_rows", click.IntRange(1, 1 << 16), "Most rows per request.")
@_option("max_request_bytes", click.IntRange(1, 1 << 30), "Most bytes of input images per request.")
@_option("max_image_pixels", click.IntRange(1, 1 << 26), "Most pixels per input image, before it is resized.")
@_option("max_connections", click.IntRange(1, 1 << 20), "Most gRPC connections; more are closed at once.")
@_option("max_connection_idle_s", _SECONDS, "Close a connection without requests after this time.  [default: never]")
@_option("max_connection_age_s", _SECONDS, "Ask a client to connect again after this time.  [default: never]")
@_option(
    "max_connection_age_grace_s",
    _SECONDS,
    "Time that requests of an old connection have left.  [default: until they end]",
)
@_option("front", click.Choice(FRONT_NAMES), "How calls reach the server: gRPC's core, or grpc.aio, which is slower.")
@click.option("--grpc-compression", is_flag=True, help="Compress answers for clients that can read it, which is slow.")
@_option("access_log", str, "Write one JSON line per request to this file; - is stdout.")
@_option("otlp_endpoint", str, "Send spans to this OpenTelemetry collector, for example http://127.0.0.1:4317.")
@click.option("--log-level", type=click.Choice(_LOG_LEVELS), default="info", show_default=True, help="Log level.")
@_log_format
@_option("load_timeout_s", click.FloatRange(1, 86_400), "Longest time to load one version of a model.")
@_option("compute_timeout_s", click.FloatRange(1, 86_400), "Longest time that ONNX Runtime computes one batch.")
@_option("lame_duck_s", click.FloatRange(0), "Time to keep serving after SIGTERM, for balancers to notice.")
@_option("drain_timeout_s", click.FloatRange(0), "Longest time to finish accepted requests after SIGTERM.")
@_show_config
@version_option(*_PACKAGES)
@click.pass_context
def main(context: click.Context, /, log_level: str, log_format: LogFormat, *, show_config: bool, **flags: Any) -> None:
    """Serve the newest working version of every model in a model repository over gRPC."""
    if context.invoked_subcommand is not None:
        for param in main.params:
            if context.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE:
                raise click.UsageError(
                    f"{param.opts[0]} is a flag of the server; write the flags of {context.invoked_subcommand} after"
                    " its name"
                )
        return
    if show_config:
        click.echo(as_toml(context), nl=False)
        return
    ignore_unexpected_signals()
    from server.app import serve
    from server.memory import keep_freed_memory

    keep_freed_memory()
    configure_logging(log_level, log_format)
    for name, meant in misspelt_variables(main, os.environ).items():
        _log.warning("the variable %s sets nothing: did you mean %s?", name, meant)
    # Pillow warns about odd metadata in uploaded files. Set once here, because catch_warnings affects all threads.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    with _one_line_errors(log_format):
        sys.exit(asyncio.run(serve(_config(flags, follow=True), _announce)))


@main.command(
    cls=SourcedErrors,
    context_settings=CONTEXT_SETTINGS,
    epilog=HELP,
    short_help="Measure the models and print the best flags.",
)
@config_option
@_option("models", _ModelsType(), "Model repository to measure; one at a URL is fetched first.")
@click.option("--model", multiple=True, help="Measure only this model; repeat for several.  [default: all]")
@_option("device", click.Choice(DEVICES), "Device to compute on; auto uses CUDA if it is available.")
@_option("cores", click.IntRange(1, 1024), "Cores to use.  [default: all that the process may use]")
@_option("max_batch_size", click.IntRange(1, 1 << 16), "Largest batch to measure, in rows.")
@click.option(
    "--seconds",
    cls=_Option,
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    default=45.0,
    show_default=True,
    help="Time to measure, excluding loading.",
)
@_show_config
@version_option(*_PACKAGES)
@click.pass_context
def tune(context: click.Context, /, model: tuple[str, ...], seconds: float, *, show_config: bool, **flags: Any) -> None:
    """Measure the models on this machine and print the best flags to serve them."""
    if show_config:
        click.echo(as_toml(context), nl=False)
        return
    from server.tuning.tune import tune as measure

    configure_logging("warning")
    with _one_line_errors():
        measure(_config(flags, follow=False), model, seconds)


@main.command(
    cls=SourcedErrors,
    context_settings=CONTEXT_SETTINGS,
    epilog="Credentials come from where the driver looks for them, such as AWS_ACCESS_KEY_ID or HF_TOKEN.",
    short_help="Copy models from a bucket, a hub or a web server.",
)
@click.argument("url")
@click.argument("folder", type=click.Path(path_type=Path), default=_DEFAULTS["models"])
@click.option("--model", multiple=True, help="Fetch only this model; repeat for several.  [default: all]")
@click.option(
    "--every",
    "every_s",
    cls=_Option,
    metavar="SECONDS",
    type=click.FloatRange(0.1, 86_400),
    help="Fetch again after this time, until SIGTERM or SIGINT.  [default: fetch once]",
)
@_log_format
@version_option("fsspec", "s3fs")
def fetch(url: str, folder: Path, model: tuple[str, ...], every_s: float | None, log_format: LogFormat) -> None:
    """Copy the versions that are not in FOLDER yet from the model repository at URL.

    URL is that of a model repository, such as s3://bucket/models, gs://bucket/models, hf://user/repository or
    https://host/models, or that of one version. FOLDER is models/ if it is left out. Versions are checked against their
    cards, and appear complete or not at all. Nothing is deleted; a config.pbtxt is replaced by that at URL.
    """
    from server.remote import command

    configure_logging("info", log_format)
    with _one_line_errors(log_format):
        if not is_url(url):
            raise StartupError(f"{url}: is no URL; give one such as s3://bucket/models, or copy the folder")
        if every_s is None:
            command.fetch(url, folder, model, click.echo)
        else:
            command.follow(url, folder, model, every_s)


if __name__ == "__main__":
    main(prog_name="python -m server")
