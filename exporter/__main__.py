"""The command line of the exporter: flags -> sources -> plans -> export. Owns the flags and the exit codes.

python -m exporter runs/dcgan-fmnist32
python -m exporter --module mynet:Generator --weights generator.pth --latent-dim 100 --name mynet
python -m exporter --module mynet:Translator --weights translator.pth --input-image 3 128 128 --name mynet
python -m exporter --tutorial-netg netG_epoch_24.pth --name faces
python -m exporter --pickle generator.pkl --allow-pickle --latent-dim 100 --name mynet
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click
from click.core import ParameterSource
from rich.console import Console

from exporter.errors import ExportError, InputError
from exporter.terminal import Progress, print_summary
from ganserve.bundle import BundleError, ImageInput, LatentInput, check_name

_INPUTS = {"latent_dim", "input_image"}
# What can be exported, and the flags that go with each of them alone.
_SOURCES = {
    "run": {"checkpoint"},
    "module": {"weights", "module_kwargs", "value_range", *_INPUTS},
    "tutorial_netg": set[str](),
    "pickle": {"allow_pickle", "value_range", *_INPUTS},
}
_CHECKPOINT = re.compile(r"best|last|epoch-[0-9]{4,9}")
_MAX_INPUT_SIZE = 4096


def _parse_json_object(context: click.Context, parameter: click.Parameter, value: str) -> dict[str, Any]:
    try:
        decoded = json.loads(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not JSON ({error})", context, parameter) from error
    if not isinstance(decoded, dict):
        raise click.BadParameter(f"""{value!r} is not a JSON object like '{{"width": 32}}'""", context, parameter)
    return decoded


def _parse_checkpoint(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if not _CHECKPOINT.fullmatch(value):
        raise click.BadParameter(f"{value!r} is none; write best, last, or epoch-0012", context, parameter)
    return value


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option(
    "--checkpoint",
    callback=_parse_checkpoint,
    default="best",
    metavar="best|last|epoch-NNNN",
    help="Which weights of the run.",
)
@click.option("--module", metavar="PKG.MOD:CLASS", help="Instead of a run: an importable torch.nn.Module.")
@click.option("--weights", type=click.Path(path_type=Path), help="Its weights: safetensors, or a saved state dict.")
@click.option("--latent-dim", type=click.IntRange(1, 1 << 20), help="Numbers in one of its latents.")
@click.option(
    "--input-image",
    type=(click.IntRange(1, 4), click.IntRange(1, _MAX_INPUT_SIZE), click.IntRange(1, _MAX_INPUT_SIZE)),
    metavar="C H W",
    help="Instead, if it turns images into images: channels, height and width of those it takes.",
)
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
    help="The values of its images that are pixels 0 and 255.",
)
@click.option(
    "--tutorial-netg",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Instead of a run: the weights of the PyTorch DCGAN tutorial's netG.",
)
@click.option(
    "--pickle",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Instead of a run: a whole module, as torch.save(module, FILE) writes it.",
)
@click.option("--allow-pickle", is_flag=True, help="Let the code in that file run.")
@click.option("--name", help="Name in the repository.  [default: the run's model]", show_default=False)
@click.option("--version", type=click.IntRange(1, 1 << 20), help="Version.  [default: the next free one]")
@click.option("--models", type=click.Path(path_type=Path), default=Path("models"), help="The model repository.")
@click.option("--fold/--no-fold", default=True, help="Fold BatchNorm into the layer before it.")
@click.option("--bf16", is_flag=True, help="Add a bfloat16 variant, for CPUs, if its pixels are close enough.")
@click.option("--fp16", is_flag=True, help="Add a float16 variant, for CUDA, if its pixels are close enough.")
@click.pass_context
def main(
    context: click.Context,
    *,
    run: Path | None,
    checkpoint: str,
    module: str | None,
    weights: Path | None,
    latent_dim: int | None,
    input_image: tuple[int, int, int] | None,
    module_kwargs: dict[str, Any],
    value_range: tuple[float, float],
    tutorial_netg: Path | None,
    pickle: Path | None,
    allow_pickle: bool,  # if it is not set, _check_flags has refused
    name: str | None,
    version: int | None,
    models: Path,
    fold: bool,
    bf16: bool,
    fp16: bool,
) -> None:
    """Turns RUN, or anyone's module, into proven versions of the model repository."""
    with _one_line_errors():
        _check_flags(context)
        if name is not None:
            check_name(name)
        # Importing torch takes seconds, which wrong flags and --help need not wait for.
        console = Console(stderr=True)
        with console.status("load the networks") as status:
            from exporter.export import export_all, plan_exports

            if run is not None:
                from exporter.source import from_run

                sources = from_run(run, checkpoint)
            elif tutorial_netg is not None:
                from exporter.tutorial_dcgan import from_tutorial_netg

                sources = [from_tutorial_netg(tutorial_netg)]
            else:
                if str(Path.cwd()) not in sys.path:
                    sys.path.insert(0, str(Path.cwd()))
                row_input = _row_input(latent_dim, input_image)
                if pickle is not None:
                    from exporter.pickled_module import from_pickle

                    warn = partial(click.echo, err=True)
                    sources = [from_pickle(pickle, row_input, value_range, warn)]
                else:
                    from exporter.module import from_module

                    assert module is not None
                    assert weights is not None
                    sources = [from_module(module, weights, row_input, module_kwargs, value_range)]
            names = [f"{name}{source.suffix}" if name else source.name for source in sources]
            variants = [name for name, wanted in (("bf16", bf16), ("fp16", fp16)) if wanted]
            plans = plan_exports(models, names, version, fold=fold, variants=variants)
            progress = Progress(console, status)
            published = export_all(list(zip(sources, plans, strict=True)), progress.begin)
            progress.end()
    print_summary(published, models)


def _row_input(latent_dim: int | None, input_image: tuple[int, int, int] | None) -> LatentInput | ImageInput:
    if latent_dim is not None:
        return LatentInput(latent_dim=latent_dim)
    assert input_image is not None
    channels, height, width = input_image
    return ImageInput(channels=channels, height=height, width=width)


def _check_flags(context: click.Context) -> None:
    given = {key for key in context.params if context.get_parameter_source(key) is not ParameterSource.DEFAULT}
    given = {key for key in given if context.params[key] is not None}
    sources = sorted(given & set(_SOURCES))
    if len(sources) != 1:
        raise InputError("give either a run folder or --module, --tutorial-netg or --pickle, and only one of them")
    (source,) = sources
    of_any = set().union(*_SOURCES.values())
    foreign = sorted(given & (of_any - _SOURCES[source]))
    if foreign:
        owners = " or ".join(_flag(key) for key, flags in _SOURCES.items() if foreign[0] in flags)
        raise InputError(f"{_flag(foreign[0])} goes with {owners} only")
    if source == "pickle" and not context.params["allow_pickle"]:
        raise InputError(
            f"--pickle {context.params['pickle']}: reading a pickled module runs whatever code is in it; if you trust"
            " whoever made it, add --allow-pickle"
        )
    missing = [] if source == "run" or "name" in given else ["--name"]
    if source == "module" and "weights" not in given:
        missing.insert(0, "--weights")
    if source in {"module", "pickle"}:
        if not given & _INPUTS:
            missing.append("--latent-dim (or --input-image)")
        if given >= _INPUTS:
            raise InputError("give --latent-dim if the module takes latents, --input-image if images, not both")
    if missing:
        raise InputError(f"{_flag(source)} needs {' and '.join(missing)} too")
    low, high = context.params["value_range"]
    if not -1e6 <= low < high <= 1e6:
        raise InputError(f"--value-range {low:g} {high:g}: the first must be below the second, and both within 1e6")


def _flag(parameter: str) -> str:
    return "a run folder" if parameter == "run" else "--" + parameter.replace("_", "-")


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


if __name__ == "__main__":
    main()
