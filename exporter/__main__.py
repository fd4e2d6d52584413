"""The command line of the exporter: its flags and what it prints.

python -m exporter runs/dcgan-fmnist32
python -m exporter --module mynet:Generator --weights generator.pth --latent-dim 100 --name mynet
python -m exporter --module mynet:Translator --weights translator.pth --input-image 3 128 128 --name mynet
python -m exporter --tutorial-netg netG_epoch_24.pth --name faces
python -m exporter hf://user/repository/generator.safetensors --module mynet:Generator --latent-dim 100 --name mynet
python -m exporter --pickle generator.pkl --allow-pickle --latent-dim 100 --name mynet
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from msgspec import structs
from rich.console import Console
from rich.table import Table
from rich.text import Text

from exporter.errors import ExportError, InputError
from exporter.remote import is_url, local_file
from ganserve.bundle import (
    MAX_STATEMENT,
    MAX_VERSION,
    SAMPLE_FILE,
    BundleError,
    Card,
    ImageInput,
    LatentInput,
    check_name,
)
from ganserve.command_line import OneLineErrors, model_version_option
from ganserve.grids import sample_rows
from ganserve.latents import DISTRIBUTIONS, NORMAL
from ganserve.machine import limit_torch_threads

_INPUTS = {"latent_dim", "input_image"}
_SIGNATURE = {"forward_kwargs", "output_item", "output_image"}
_MAX_VALUE = 1e6  # of --value-range
_OF_MODULES = {"value_range", "latent_prior", *_INPUTS, *_SIGNATURE}
# What can be exported, and the flags that are valid only with it.
_SOURCES = {
    "run": {"checkpoint"},
    "module": {"weights", "weights_key", "allow_pickle", "module_kwargs", *_OF_MODULES},
    "tutorial_netg": {"weights_key", "allow_pickle", "latent_prior"},
    "pickle": {"weights_key", "allow_pickle", *_OF_MODULES},
}
_MAX_INPUT_SIZE = 4096
_IMAGE_SHAPE = (click.IntRange(1, 4), click.IntRange(1, _MAX_INPUT_SIZE), click.IntRange(1, _MAX_INPUT_SIZE))
# How to serve a variant.
_VARIANT_FLAGS = {"bf16": "--precision bf16", "fp16": "--precision fp16 --device cuda"}


@click.command(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("run", required=False)
@click.option("--checkpoint", default="best", metavar="best|last|epoch-NNNN", help="Checkpoint of the run to export.")
@click.option("--module", metavar="PKG.MOD:CLASS", help="Export an importable torch.nn.Module instead of a run.")
@click.option(
    "--weights",
    metavar="FILE|URL",
    help="Weights of --module: safetensors, TorchScript, or a checkpoint written by torch.save.",
)
@click.option(
    "--weights-key",
    metavar="KEY",
    help="The network in the file, such as netG or state_dict.generator.  [default: the one that fits]",
)
@click.option("--latent-dim", type=click.IntRange(1, 1 << 20), help="Latent size, for a module that takes latents.")
@click.option(
    "--latent-prior",
    type=click.Choice(DISTRIBUTIONS),
    default=NORMAL,
    help="The distribution of the latents in training: seeds draw from it.",
)
@click.option(
    "--input-image",
    type=_IMAGE_SHAPE,
    metavar="C H W",
    help="Channels, height and width of the input, for an image-to-image module.",
)
@click.option("--module-kwargs", default="{}", metavar="JSON", help="Arguments of the class, as a JSON object.")
@click.option(
    "--forward-kwargs",
    default="{}",
    metavar="JSON",
    help="Fixed arguments of the module's forward, as a JSON object; a list is a tensor of one row, such as [3] for a"
    " label.",
)
@click.option(
    "--output-item",
    metavar="INDEX|KEY",
    help="Which item of the tuple, list or dict that forward returns holds the images.",
)
@click.option(
    "--output-image",
    type=_IMAGE_SHAPE,
    metavar="C H W",
    help="Channels, height and width of an image, if forward returns them flat or with channels last.",
)
@click.option(
    "--value-range",
    type=(float, float),
    default=(-1.0, 1.0),
    metavar="MIN MAX",
    help="The image values of pixels 0 and 255.",
)
@click.option(
    "--tutorial-netg",
    metavar="FILE|URL",
    help="Export netG of the PyTorch DCGAN tutorial from its weights, instead of a run.",
)
@click.option(
    "--pickle",
    metavar="FILE|URL",
    help="Export an entire module written by torch.save(module, FILE), instead of a run.",
)
@click.option("--allow-pickle", is_flag=True, help="Allow the code inside the file of weights or the module to run.")
@click.option(
    "--name",
    help="Model name in the repository.  [default: data set and model of the run, such as my-pictures-dcgan;"
    " the model alone for digits]",
    show_default=False,
)
@model_version_option(MAX_VERSION, "torch", "onnx", text="Version number; default: the next free one.")
@click.option("--models", type=click.Path(path_type=Path), default=Path("models"), help="The model repository.")
@click.option(
    "--license", "license_text", metavar="TEXT", help="License of the model, for its card, such as CC-BY-4.0."
)
@click.option("--intended-use", metavar="TEXT", help="What the model is for, and what not, for its card.")
@click.option("--fold/--no-fold", default=True, help="Fold each BatchNorm into the layer before it.")
@click.option("--bf16", is_flag=True, help="Add a bfloat16 variant for CPUs, if its pixels are close to float32.")
@click.option("--fp16", is_flag=True, help="Add a float16 variant for CUDA, if its pixels are close to float32.")
@click.pass_context
def main(
    context: click.Context,
    *,
    run: str | None,
    checkpoint: str,
    module: str | None,
    weights: str | None,  # read in _file_flag
    weights_key: str | None,
    latent_dim: int | None,
    latent_prior: str,
    input_image: tuple[int, int, int] | None,
    module_kwargs: str,
    forward_kwargs: str,
    output_item: str | None,
    output_image: tuple[int, int, int] | None,
    value_range: tuple[float, float],
    tutorial_netg: str | None,
    pickle: str | None,
    allow_pickle: bool,
    name: str | None,
    version: int | None,
    models: Path,
    license_text: str | None,
    intended_use: str | None,
    fold: bool,
    bf16: bool,
    fp16: bool,
) -> None:
    """Export RUN, or another generator, as TorchScript and ONNX.

    With --module, RUN may be the URL of the weights, such as hf://user/repository/file.safetensors.

    Compares both files with PyTorch, then publishes them as a new version in the model repository.
    """
    try:
        _read_url(context)
        run = context.params["run"]
        _check_flags(context)
        if name is not None:
            check_name(name)
        _check_statement("--license", license_text)
        _check_statement("--intended-use", intended_use)
        if run is not None:
            _check_is_run(Path(run))
        flag, location = _file_flag(context)
        with _printed_steps() as announce, local_file(location, flag, announce) as file:
            # Here, because importing torch takes seconds, and --help and invalid flags should not wait for it.
            from exporter.export import export_all, plan_exports

            limit_torch_threads()
            if run is not None:
                from exporter.source import from_run

                sources = from_run(Path(run), checkpoint)
            elif tutorial_netg is not None:
                from exporter.tutorial_dcgan import from_tutorial_netg

                sources = [from_tutorial_netg(file, weights_key, _note, allow_pickle=allow_pickle)]
            else:
                if str(Path.cwd()) not in sys.path:
                    sys.path.insert(0, str(Path.cwd()))
                row_input = _row_input(latent_dim, input_image)
                from exporter.signature import Signature

                signature = Signature(_json_object("--forward-kwargs", forward_kwargs), output_item, output_image)
                if pickle is not None:
                    from exporter.pickled_module import from_pickle

                    sources = [
                        from_pickle(file, row_input, value_range, _note, signature=signature, weights_key=weights_key)
                    ]
                else:
                    from exporter.module import from_module

                    assert module is not None
                    announce(f"import {module}")
                    sources = [
                        from_module(
                            module,
                            file,
                            row_input,
                            _json_object("--module-kwargs", module_kwargs),
                            value_range,
                            signature=signature,
                            weights_key=weights_key,
                            allow_pickle=allow_pickle,
                            note=_note,
                        )
                    ]
            if latent_prior != NORMAL:
                sources = [
                    replace(source, input=structs.replace(source.input, distribution=latent_prior))
                    for source in sources
                ]
            names = [f"{name}{source.suffix}" if name else source.name for source in sources]
            variants = [precision for precision, wanted in (("bf16", bf16), ("fp16", fp16)) if wanted]
            plans = [
                replace(plan, license=license_text or "", intended_use=intended_use or "")
                for plan in plan_exports(models, names, version, fold=fold, variants=variants)
            ]
            published = export_all(list(zip(sources, plans, strict=True)), announce)
    except BundleError as error:
        raise InputError(str(error)) from error
    except OSError as error:
        raise ExportError(
            f"{error.filename or 'a file'}: {error.strerror}; check the free space and your permissions"
        ) from error
    _print_summary(published, models)


def _check_is_run(run: Path) -> None:
    from trainer.errors import RunFolderError  # only a run needs the trainer
    from trainer.runs.config_file import check_is_run

    try:
        check_is_run(run)
    except RunFolderError as error:
        raise InputError(str(error)) from error


def _read_url(context: click.Context) -> None:
    """Takes a URL in the place of RUN as --weights."""
    run = context.params["run"]
    if run is None or not is_url(run):
        return
    if context.params["module"] is None or context.params["weights"] is not None:
        raise InputError(
            f"{run}: a URL names a file of weights; give its class with --module, or the URL with --tutorial-netg or"
            " --pickle"
        )
    context.params |= {"run": None, "weights": run}
    context.set_parameter_source("weights", ParameterSource.COMMANDLINE)


def _file_flag(context: click.Context) -> tuple[str, str]:
    """The flag that names a file of weights or a module, and the file; empty for a run."""
    for key in ("weights", "tutorial_netg", "pickle"):
        if context.params[key] is not None:
            return _flag(key), context.params[key]
    return "", ""


def _check_flags(context: click.Context) -> None:
    given = {key for key in context.params if context.get_parameter_source(key) is not ParameterSource.DEFAULT}
    given = {key for key in given if context.params[key] is not None}
    sources = given & set(_SOURCES)
    if len(sources) != 1:
        raise InputError("give exactly one of a run folder, --module, --tutorial-netg and --pickle")
    (source,) = sources
    foreign = sorted(given & (set().union(*_SOURCES.values()) - _SOURCES[source]))
    if foreign:
        owners = " or ".join(_flag(key) for key, flags in _SOURCES.items() if foreign[0] in flags)
        raise InputError(f"{_flag(foreign[0])} is valid only with {owners}")
    if source == "pickle" and not context.params["allow_pickle"]:
        raise InputError(
            f"--pickle {context.params['pickle']}: loading a pickled module runs the code inside it; if you trust its"
            " author, add --allow-pickle"
        )
    if {"latent_prior", "input_image"} <= given:
        raise InputError("--latent-prior is valid only with --latent-dim")
    missing = [] if source == "run" or "name" in given else ["--name"]
    if source == "module" and "weights" not in given:
        missing.insert(0, "--weights")
    if source in {"module", "pickle"}:
        if not given & _INPUTS:
            missing.append("--latent-dim (or --input-image)")
        if given >= _INPUTS:
            raise InputError("give --latent-dim if the module takes latents, --input-image if images, not both")
    if missing:
        raise InputError(f"{_flag(source)} also needs {' and '.join(missing)}")
    low, high = context.params["value_range"]
    if not -_MAX_VALUE <= low < high <= _MAX_VALUE:
        raise InputError(
            f"--value-range {low:g} {high:g}: the first must be below the second, both within {_MAX_VALUE:g}"
        )


def _check_statement(flag: str, text: str | None) -> None:
    if text is not None and not (text.isprintable() and 1 <= len(text.strip()) <= len(text) <= MAX_STATEMENT):
        raise InputError(f"{flag}: give 1 to {MAX_STATEMENT} printable characters on one line")


def _flag(parameter: str) -> str:
    return "a run folder" if parameter == "run" else "--" + parameter.replace("_", "-")


def _row_input(latent_dim: int | None, input_image: tuple[int, int, int] | None) -> LatentInput | ImageInput:
    if latent_dim is not None:
        return LatentInput(latent_dim=latent_dim)
    assert input_image is not None
    channels, height, width = input_image
    return ImageInput(channels=channels, height=height, width=width)


def _json_object(flag: str, text: str) -> dict[str, Any]:
    try:
        decoded = json.loads(text)
    except ValueError as error:
        raise InputError(f"{flag} {text!r} is not JSON ({error})") from error
    if not isinstance(decoded, dict):
        raise InputError(f"""{flag} {text!r} is not a JSON object like '{{"width": 32}}'""")
    return decoded


def _note(line: str) -> None:
    """Prints a line above the spinner; click.echo would write over it."""
    print(line, file=sys.stderr)


@contextmanager
def _printed_steps() -> Iterator[Callable[[str], None]]:
    """Yields a function that shows the next step, and prints the finished one with its duration."""
    console = Console(
        file=sys.stderr, emoji=False
    )  # which stays that of the terminal while other code prints elsewhere
    step, began_s = "", 0.0
    with console.status("load the networks") as status:

        def begin(next_step: str) -> None:
            nonlocal step, began_s
            if step:
                took_s = time.monotonic() - began_s
                duration = f" ({took_s:.1f} s)" if took_s >= 0.05 else ""
                # Without markup, because a step may quote an error that holds brackets.
                console.print(f"  {step}{duration}", highlight=False, markup=False, soft_wrap=True)
            step, began_s = next_step, time.monotonic()
            status.update(Text(step))

        yield begin
        begin("")


def _print_summary(published: Sequence[tuple[Path, Card]], models: Path) -> None:
    """Prints the measurements and files of each bundle, how to serve them, and last their folders, one per line."""
    for folder, card in published:
        _print_table(
            "Largest difference from eager PyTorch",
            ("rows", "TorchScript images", "ONNX images", "TorchScript pixels", "ONNX pixels"),
            (
                (
                    str(parity.rows),
                    f"{parity.torchscript_images:.1e}",
                    f"{parity.onnx_images:.1e}",
                    str(parity.torchscript_pixels),
                    str(parity.onnx_pixels),
                )
                for parity in card.parity
            ),
        )
        if card.variants:
            _print_table(
                "Pixels in reduced precision, compared with float32",
                ("precision", "images", "within one level", "PSNR dB", "largest difference", "published"),
                (
                    (
                        precision,
                        str(fidelity.images),
                        f"{fidelity.within_one_level:.3%}",
                        f"{fidelity.psnr_db:.1f}",
                        str(fidelity.largest_level_difference),
                        "yes" if fidelity.published else "no",
                    )
                    for precision, fidelity in card.variants.items()
                ),
            )
        if isinstance(card.input, LatentInput):
            taken = f"latents of size {card.input.latent_dim}"
        else:
            taken = f"{card.input.width}x{card.input.height} images"
        click.echo(f"{card.name} version {card.version}: {taken} -> {card.width}x{card.height} images")
        for file_name in card.files:
            click.echo(f"  {file_name}  {(folder / file_name).stat().st_size / 2**20:.2f} MiB")
        if (folder / SAMPLE_FILE).is_file():
            click.echo(f"  {SAMPLE_FILE}  {sample_rows(card.height, card.width)} images")
    for precision, flags in _VARIANT_FLAGS.items():
        if all(precision in card.variants and card.variants[precision].published for _, card in published):
            click.echo(f"Serve in {precision}: python -m server --models {models} {flags}")
    click.echo(f"Serve: python -m server --models {models}")
    for folder, _ in published:
        click.echo(folder)


def _print_table(title: str, headings: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    table = Table(title=title)
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*row)
    Console(emoji=False).print(table)


if __name__ == "__main__":
    # OpenMP reads it when torch is imported. By default its threads spin while they wait, which on a busy machine takes
    # the cores from those that work.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    main()
