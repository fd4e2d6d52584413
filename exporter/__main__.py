"""The command line of the exporter: flags -> plan -> export. Owns what is printed, and nothing else.

python -m exporter runs/dcgan-fmnist32
python -m exporter --module mynet:Generator --weights generator.pth --latent-dim 100 --name mynet
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import click
from click.core import ParameterSource
from rich.console import Console
from rich.status import Status
from rich.table import Table

from exporter.bundle import BundleError, Card, check_name
from exporter.errors import ExportError, InputError

if TYPE_CHECKING:
    from exporter.source import Source

_MODULE_ONLY = {"weights", "latent_dim", "module_kwargs", "value_range"}
_RUN_ONLY = {"checkpoint"}


def _parse_json_object(context: click.Context, parameter: click.Parameter, value: str) -> dict[str, Any]:
    try:
        decoded = json.loads(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not JSON ({error})", context, parameter) from error
    if not isinstance(decoded, dict):
        raise click.BadParameter(f"""{value!r} is not a JSON object like '{{"width": 32}}'""", context, parameter)
    return decoded


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--checkpoint", type=click.Choice(["best", "last"]), default="best", help="Which weights of the run.")
@click.option("--module", metavar="PKG.MOD:CLASS", help="Instead of a run: an importable torch.nn.Module.")
@click.option("--weights", type=click.Path(path_type=Path), help="Its weights: safetensors, or a saved state dict.")
@click.option("--latent-dim", type=click.IntRange(1, 1 << 20), help="Numbers in one of its latents.")
@click.option(
    "--module-kwargs",
    callback=_parse_json_object,
    default="{}",
    metavar="JSON",
    help="Arguments of its class, as a JSON object.",
)
@click.option(
    "--value-range",
    type=(float, float),
    default=(-1.0, 1.0),
    metavar="MIN MAX",
    help="The values of its images that become pixels 0 and 255.",
)
@click.option("--name", help="Name of the model in the repository.  [default: the run's model]", show_default=False)
@click.option("--version", type=click.IntRange(1, 1 << 20), help="Version.  [default: the next free one]")
@click.option("--models", type=click.Path(path_type=Path), default=Path("models"), help="The model repository.")
@click.option("--fold/--no-fold", default=True, help="Fold BatchNorm into the layer before it.")
@click.pass_context
def main(
    context: click.Context,
    run: Path | None,
    checkpoint: Literal["best", "last"],
    module: str | None,
    weights: Path | None,
    latent_dim: int | None,
    module_kwargs: dict[str, Any],
    value_range: tuple[float, float],
    name: str | None,
    version: int | None,
    models: Path,
    fold: bool,
) -> None:
    """Turns RUN, or anyone's generator, into a proven version of the model repository."""
    with _one_line_errors():
        _check_flags(context, run, module)
        if name is not None:
            check_name(name)
        # Importing torch takes seconds, which wrong flags and --help need not wait for.
        console = Console(stderr=True)
        with console.status("load the generator") as status:
            from exporter.export import export, plan_export

            source: Source
            if run is not None:
                from exporter.source import from_run

                source = from_run(run, checkpoint)
            else:
                from exporter.source import from_module

                assert module is not None
                assert weights is not None
                assert latent_dim is not None
                if str(Path.cwd()) not in sys.path:
                    sys.path.insert(0, str(Path.cwd()))
                source = from_module(module, weights, latent_dim, module_kwargs, value_range)
            plan = plan_export(models, name or source.kind, version, fold=fold)
            progress = _Progress(console, status)
            folder, card = export(source, plan, progress.begin)
            progress.end()
    _print_summary(folder, card, models)


def _check_flags(context: click.Context, run: Path | None, module: str | None) -> None:
    if (run is None) == (module is None):
        raise InputError("give either a run folder or --module, not both and not neither")
    given = {key for key in context.params if context.get_parameter_source(key) is not ParameterSource.DEFAULT}
    given = {key for key in given if context.params[key] is not None}
    foreign = sorted(given & (_MODULE_ONLY if module is None else _RUN_ONLY))
    if foreign:
        raise InputError(f"{_flag(foreign[0])} goes with {'--module' if module is None else 'a run folder'} only")
    missing = [key for key in ("weights", "latent_dim", "name") if context.params[key] is None]
    if module is not None and missing:
        raise InputError(f"--module needs {' and '.join(map(_flag, missing))} too")
    low, high = context.params["value_range"]
    if not -1e6 <= low < high <= 1e6:
        raise InputError(f"--value-range {low:g} {high:g}: the first must be below the second, and both within 1e6")


def _flag(parameter: str) -> str:
    return "--" + parameter.replace("_", "-")


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except ExportError as error:
        _fail(str(error), error.exit_code)
    except BundleError as error:
        _fail(str(error), InputError.exit_code)
    except OSError as error:
        _fail(f"{error.filename or 'a file'}: {error.strerror}; is the disk full, or not yours?", ExportError.exit_code)


def _fail(message: str, exit_code: int) -> NoReturn:
    click.echo(f"Error: {message}", err=True)
    sys.exit(exit_code)


class _Progress:
    """Shows the running step, and prints each finished one with its time."""

    def __init__(self, console: Console, status: Status) -> None:
        self._console = console
        self._status = status
        self._step = ""
        self._began_s = 0.0

    def begin(self, step: str) -> None:
        self.end()
        self._step, self._began_s = step, time.monotonic()
        self._status.update(step)

    def end(self) -> None:
        if self._step:
            self._console.print(f"  {self._step} ({time.monotonic() - self._began_s:.1f} s)", highlight=False)


def _print_summary(folder: Path, card: Card, models: Path) -> None:
    table = Table(title="Largest difference from eager PyTorch")
    for heading in ("rows", "TorchScript images", "ONNX images", "TorchScript pixels", "ONNX pixels"):
        table.add_column(heading, justify="right")
    for figure in card.parity:
        table.add_row(
            str(figure.rows),
            f"{figure.torchscript_images:.1e}",
            f"{figure.onnx_images:.1e}",
            str(figure.torchscript_pixels),
            str(figure.onnx_pixels),
        )
    Console().print(table)
    click.echo(
        f"{card.name} version {card.version}: latents of {card.latent_dim} -> {card.width} x {card.height} images"
    )
    for file_name in card.files:
        click.echo(f"  {file_name}  {(folder / file_name).stat().st_size / 2**20:.2f} MiB")
    click.echo(f"Serve it: python -m server --models {models}")
    click.echo(folder)


if __name__ == "__main__":
    main()
