"""`ganclient translate`: translates image files into another domain, one file each."""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from client.commands.model_options import model_options
from client.commands.options import ConnectOptions, connection_options, writable
from client.commands.progress import ImageProgress
from client.errors import GanClientError, UnwritableOutput, one_line
from client.files.images import check_output, check_output_folder, save_image
from client.files.pairs import MAX_PAIRS, PairPicture
from client.files.picture_files import Plan, is_among, plan_translation
from client.files.translation import Failures, FileTranslation
from client.sdk.calls import Translator
from client.sdk.messages import FileFormat
from ganserve.picture_formats import counts
from ganserve.wording import counted

_EXTENSIONS: Final[dict[FileFormat, str]] = {"png": ".png", "jpeg": ".jpg"}


@click.command()
@click.argument("files_or_folders", nargs=-1, required=True, type=click.Path(), metavar="PATH...")
@model_options("translate")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    callback=writable(check_output_folder),
    help="Output folder, created if missing; existing files are replaced.",
)
@click.option(
    "--resize",
    is_flag=True,
    help="Resize and centre-crop images of other sizes, which are refused otherwise.",
)
@click.option(
    "--grid",
    type=click.Path(path_type=Path),
    metavar="FILE",
    callback=writable(check_output),
    help=f"Also save the first {MAX_PAIRS} inputs and outputs, side by side in one picture.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(list(_EXTENSIONS)),
    default="png",
    show_default=True,
    help="Format of the output files.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@connection_options
def translate(
    files_or_folders: tuple[str, ...],
    model: str,
    out: Path,
    resize: bool,
    grid: Path | None,
    version: int | str | None,
    file_format: FileFormat,
    as_json: bool,
    connect: ConnectOptions,
) -> None:
    """Translate image files into another domain.

    Each PATH is an image file, or a folder to search for image files. Outputs keep the names and sub-folders of their
    inputs. Hidden files, links to folders, and files that are no pictures by suffix or by content are left out and
    counted. A file that cannot be translated is reported and skipped; the exit code is then 2.
    """
    plan = plan_translation(files_or_folders, str(out), _EXTENSIONS[file_format])
    if grid is not None and is_among(str(grid), plan.files):
        raise click.BadParameter(f"{grid} is one of the files to read or write; name another file", param_hint="--grid")
    with connect.connection(model=model, version=version) as connection, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # warns about odd metadata
        translator = Translator(connection, model, version, resize=resize, image_format=file_format)
        pairs = None if grid is None else PairPicture(translator.served)
        done, stopped = _run(plan, translator, file_format, pairs)
    if as_json:
        click.echo(json.dumps({"folder": _folder(out), **dataclasses.asdict(done), "grid_pairs": len(pairs or ())}))
    elif stopped is None or done.written or done.failed:
        click.echo(_summary(done, out))
    if stopped is not None:
        if grid is not None and pairs:
            _save_partial(pairs, grid, quiet=as_json)
        raise stopped
    if grid is not None and pairs is not None:
        _save_pairs(pairs, grid, quiet=as_json)
    if done.failed:
        click.get_current_context().exit(2)


@dataclass(frozen=True)
class _Done:
    """The result; counts are numbers of images."""

    model: str
    version: int
    written: int
    failed: int
    left: int


def _run(
    plan: Plan, translator: Translator, file_format: FileFormat, pairs: PairPicture | None
) -> tuple[_Done, GanClientError | None]:
    """Translates all files; returns the result, and the error if one ended the run early."""
    with ImageProgress(translator.served.name, len(plan.files)) as progress:
        if plan.left_out:
            progress.say(f"left out: {counts(plan.left_out)}")
        failures = Failures(progress.say)
        translation = FileTranslation(translator, file_format, failures, pairs, progress.add)
        for folder, reason in plan.unreadable:
            failures.add(folder, f"cannot be searched ({reason})")
        stopped: GanClientError | None = None
        try:
            translation.run(plan.files)
        except GanClientError as error:
            stopped = error
        failures.report_rest()
    tried = translation.written + len(failures) - len(plan.unreadable)
    return _Done(
        model=translator.served.name,
        version=translator.version or translator.served.version,
        written=translation.written,
        failed=len(failures),
        left=0 if stopped is None else len(plan.files) - tried,
    ), stopped


def _summary(done: _Done, out: Path) -> str:
    parts = [f"{counted(done.written, 'image')} of {done.model}:{done.version} -> {_folder(out)}"]
    if done.failed:
        parts.append(f"{done.failed} failed")
    if done.left:
        parts.append(f"{done.left} left")
    return ", ".join(parts)


def _save_pairs(pairs: PairPicture, grid: Path, *, quiet: bool) -> None:
    name = click.format_filename(grid)
    if not pairs:
        click.echo(f"{name}: not written, because no image was translated", err=True)
        return
    save_image(pairs.picture(), grid)
    if not quiet:
        click.echo(f"{name}: {counted(len(pairs), 'pair')} of input and output")


def _save_partial(pairs: PairPicture, grid: Path, *, quiet: bool) -> None:
    """Saves the pairs made before an error ended the run; a second error is only printed."""
    try:
        _save_pairs(pairs, grid, quiet=quiet)
    except UnwritableOutput as error:
        click.echo(one_line(str(error)), err=True)


def _folder(path: Path) -> str:
    name = click.format_filename(path)
    return name if name.endswith(os.sep) else f"{name}{os.sep}"
