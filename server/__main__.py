"""`python -m server` and `python -m server tune`: flags to a config, errors to exit codes.

What serves and what measures is imported only once it is known to be wanted, so that wrong flags are told at once.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from server.config import BACKENDS, DEVICES, MODEL_CONTROLS, PRECISIONS, Address, ServerConfig
from server.errors import StartupError

_USER_ERROR = 2
_LOG_LEVELS = ("debug", "info", "warning", "error")
_Command = TypeVar("_Command", bound=Callable[..., Any])
_DEFAULTS = {field.name: field.default for field in fields(ServerConfig)}


class _AddressType(click.ParamType[Address]):
    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        if isinstance(value, Address):
            return value
        try:
            return Address.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _IndicesType(click.ParamType[tuple[int, ...]]):
    name = "indices"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        indices = str(value).split(",")
        if not all(index.isascii() and index.isdecimal() and len(index) <= 4 for index in indices):
            self.fail(f"{value!r} is not a list of indices such as 0,1", param, ctx)
        return tuple(map(int, indices))


def _option(name: str, kind: Any, text: str) -> Callable[[_Command], _Command]:
    """A flag for one field of the config, with the config's default."""
    default = _DEFAULTS[name]
    return click.option(f"--{name.replace('_', '-')}", name, type=kind, default=default, show_default=True, help=text)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except StartupError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(_USER_ERROR)


def _configure_logging(level: str) -> None:
    logging.basicConfig(level=level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")


@click.group(invoke_without_command=True, context_settings={"max_content_width": 120})
@_option("models", click.Path(path_type=Path), "Model repository to serve.")
@_option("address", _AddressType(), "Where to answer gRPC; port 0 takes a free one.")
@_option("metrics_address", _AddressType(), "Where to answer Prometheus over HTTP.")
@_option("device", click.Choice(DEVICES), "What computes; auto takes CUDA if it works.")
@_option("cuda_devices", _IndicesType(), "CUDA devices to compute on, such as 0,1.  [default: all]")
@click.option("--cuda-graphs", is_flag=True, help="Replay each batch size as one CUDA graph.")
@_option("backend", click.Choice(BACKENDS), "What runs the graphs; TorchScript files hold code.")
@_option("precision", click.Choice(PRECISIONS), "What large batches are computed in, if the bundle has it.")
@_option("engines", click.IntRange(1, 256), "Engines that compute side by side on the CPU.  [default: by its cores]")
@_option("profile", click.Path(path_type=Path), "What `python -m server tune` found for this machine.")
@_option("model_control", click.Choice(MODEL_CONTROLS), "Whether callers may load and unload models.")
@_option("max_batch_size", click.IntRange(1, 1 << 16), "Most rows computed at once.")
@_option(
    "max_queue_delay_us",
    click.IntRange(0, 60_000_000),
    "How long a row may wait for a fuller batch.  [default: by load]",
)
@_option("max_queue_rows", click.IntRange(1, 1 << 24), "Most rows that wait, a model; more are refused.")
@_option("max_request_rows", click.IntRange(1, 1 << 16), "Most rows of one request.")
@_option("max_request_bytes", click.IntRange(1, 1 << 30), "Most bytes of the images that one request sends.")
@_option("max_image_pixels", click.IntRange(1, 1 << 26), "Most pixels of one image that is sent, before it is resized.")
@_option("access_log", str, "Where to write a JSON line a request: a file, or - for stdout.")
@click.option("--log-level", type=click.Choice(_LOG_LEVELS), default="info", show_default=True, help="What to log.")
@_option("drain_timeout_s", click.FloatRange(0), "How long to finish accepted requests after SIGTERM.")
@click.pass_context
def main(context: click.Context, /, log_level: str, **flags: Any) -> None:
    """Serve the newest version of every model in a model repository over gRPC."""
    if context.invoked_subcommand is not None:
        for name in context.params:
            if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
                flag = f"--{name.replace('_', '-')}"
                raise click.UsageError(
                    f"{flag} is about serving; write the flags of {context.invoked_subcommand} after it"
                )
        return
    from server.app import serve

    _configure_logging(log_level)
    # Of odd metadata in files that were sent; once for all threads, as catch_warnings is not for one alone.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    with _one_line_errors():
        sys.exit(asyncio.run(serve(ServerConfig(**flags), click.echo)))


@main.command(context_settings={"max_content_width": 120})
@_option("models", click.Path(path_type=Path), "Model repository to measure.")
@click.option("--model", "names", multiple=True, help="Measure this model only; may be given again.  [default: all]")
@_option("device", click.Choice(DEVICES), "What computes; auto takes CUDA if it works.")
@_option("max_batch_size", click.IntRange(1, 1 << 16), "Most rows computed at once.")
@click.option("--seconds", type=float, default=45.0, show_default=True, help="How long to measure; loading is on top.")
@click.option(
    "--out", type=click.Path(path_type=Path), default="profile.json", show_default=True, help="File to write."
)
def tune(names: tuple[str, ...], seconds: float, out: Path, **flags: Any) -> None:
    """Measure which engines suit each model on this machine, and write a profile to serve with."""
    from server.tuning.tune import tune as measure

    _configure_logging("warning")
    with _one_line_errors():
        measure(ServerConfig(**flags), names, seconds, out)


if __name__ == "__main__":
    main(prog_name="python -m server")
