"""`ganclient sample`: saves many images as separate files, in a folder or an archive."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from client.commands.interrupts import Interrupts
from client.commands.model_options import model_options, seed_option
from client.commands.options import ConnectOptions, connection_options, whole_number
from client.commands.progress import ImageProgress
from client.errors import GanClientError, one_line
from client.files.images import is_picture_name
from client.samples.folder import FolderOutput
from client.samples.npz_output import NpzOutput
from client.samples.output import SampleOutput, SampleRows
from client.samples.parquet_output import ParquetOutput
from client.samples.record import MAX_COUNT, SampleFormat, SampleRecord
from client.samples.sampling import Sampling, Wanted
from client.samples.tar_output import TarOutput
from client.samples.zip_output import ZipOutput
from client.sdk.client import GanClient
from ganserve.wording import counted

_INTERRUPTED: Final = 130
_IN_FLIGHT: Final = 2  # the server computes one request while the client writes another
OUTPUTS: Final[dict[str, Callable[[Path], SampleOutput]]] = {
    ".zip": ZipOutput,
    ".npz": NpzOutput,
    ".tar": TarOutput,
    ".parquet": ParquetOutput,
}
_OTHER_FILES: Final = frozenset({".npy", ".gz", ".tgz", ".gif", ".mp4", ".csv", ".json"})


class RowRange(click.ParamType[range]):
    """A flag of the form A..B."""

    name = "A..B"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> range:
        """Returns the range from A up to, but not including, B."""
        match = re.fullmatch(r"(\d{1,10})\.\.(\d{1,10})", str(value))
        if match is None or int(match[1]) >= int(match[2]):
            self.fail(f"{value}: give A..B with A below B, such as 0..1000", param, ctx)
        return range(int(match[1]), int(match[2]))


def _out(_ctx: click.Context, _param: click.Parameter, path: Path) -> Path:
    if (is_picture_name(path) or path.suffix.lower() in _OTHER_FILES) and not path.is_dir():
        raise click.BadParameter(
            f"{path}: name a folder, FILE.zip, FILE.tar, FILE.parquet or FILE.npz ('ganclient grid' makes one picture)"
        )
    return path


@click.command()
@model_options("generate")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    callback=_out,
    help="Folder, FILE.zip, .tar, .parquet or .npz to write; missing folders are created.",
)
@click.option(
    "--n", type=whole_number(1, MAX_COUNT), metavar="INTEGER", default=64, show_default=True, help="Number of images."
)
@seed_option
@click.option(
    "--shards",
    type=whole_number(1, MAX_COUNT),
    metavar="K",
    help="Divide the images into K parts of about the same size, and write part --shard.",
)
@click.option("--shard", type=whole_number(0, MAX_COUNT - 1), metavar="I", help="Number of the part, from 0 to K - 1.")
@click.option("--rows", type=RowRange(), help="Write images A to B - 1 only, counted from 0.")
@click.option(
    "--format",
    "sample_format",
    type=click.Choice(["png", "jpeg", "pixels"]),
    help="Image format: png or jpeg, and pixels in an npz.  [default: png, or pixels in an npz]",
)
@click.option("--overwrite", is_flag=True, help="Replace other samples at --out.")
@click.option(
    "--in-flight",
    type=whole_number(1, 64),
    metavar="INTEGER",
    default=_IN_FLIGHT,
    show_default=True,
    help="Number of concurrent requests.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@connection_options
def sample(
    *,
    model: str,
    out: Path,
    n: int,
    seed: int | None,
    shards: int | None,
    shard: int | None,
    rows: range | None,
    version: int | str | None,
    sample_format: SampleFormat | None,
    overwrite: bool,
    in_flight: int,
    as_json: bool,
    connect: ConnectOptions,
) -> None:
    """Generate images and save them in a folder or an archive.

    After an interruption, the same command resumes and gives the same result. Archives are named NAME.partial until
    they are complete.

    \b
    folder    00000.png, 00001.png and so on, in sub-folders of 1000 if there
              are more than 10000, and sample.json, which describes them
    .zip      the same files
    .tar      00000.png, 00000.json and so on, for WebDataset
    .parquet  columns image and row, for Hugging Face's datasets
    .npz      images, uint8 (n, height, width, channels); model, version, seed

    Image I of a seed is the same whoever makes it, so several machines can each make a part: give all of them the same
    --n, --seed and --version.
    """  # noqa: D301  (click's mark of a block that is not wrapped)
    image_format = _format(out, sample_format)
    part = _part(n, shards, shard, rows)
    if len(part) < n and seed is None:
        raise click.UsageError("--seed is missing: the parts of a sample need the same one")
    begun_s = time.monotonic()
    with (
        OUTPUTS.get(out.suffix.lower(), FolderOutput)(out) as output,
        connect.client(in_flight=in_flight, model=model, version=version) as client,
        Interrupts() as interrupts,
    ):
        if isinstance(version, str):
            version = client.info(model, version).version
        wanted = Wanted(model, version, seed, n, part, image_format)
        sampling = Sampling(output, wanted, client.info, lambda record, done: _fetch(client, record, done))
        record = sampling.prepare(overwrite=overwrite)
        try:
            with ImageProgress(model, len(record.rows), done=sampling.rows_done) as progress:
                is_complete = sampling.run(record, progress.add, lambda: interrupts.asked)
        except GanClientError as error:
            _raise_with_remedy(error, sampling, record, out)
    if as_json:
        click.echo(json.dumps(_facts(sampling, record, out, time.monotonic() - begun_s)))
    else:
        click.echo(_summary(sampling, record, out), err=not is_complete)
    if not is_complete:
        click.get_current_context().exit(_INTERRUPTED)


def _format(out: Path, asked: SampleFormat | None) -> SampleFormat:
    is_npz = out.suffix.lower() == ".npz"
    if asked is not None and (asked == "pixels") != is_npz:
        remedy = "an .npz holds pixels; leave out --format" if is_npz else "pixels go into an .npz; name one with --out"
        raise click.BadParameter(remedy, param_hint="'--format'")
    return asked or ("pixels" if is_npz else "png")


def _part(count: int, shards: int | None, shard: int | None, rows: range | None) -> range:
    """The rows to write, of `count`."""
    if (shards is None) != (shard is None):
        raise click.UsageError("--shards and --shard belong together: --shards 8 --shard 0")
    if shards is not None and shard is not None:
        if rows is not None:
            raise click.UsageError("--rows and --shards: give one of them")
        if shard >= shards:
            raise click.BadParameter(f"{shard}: the parts have numbers from 0 to {shards - 1}", param_hint="'--shard'")
        if shards > count:
            raise click.BadParameter(f"{shards}: there are only {count} images (--n)", param_hint="'--shards'")
        return range(count * shard // shards, count * (shard + 1) // shards)
    if rows is None:
        return range(count)
    if rows.stop > count:
        raise click.BadParameter(
            f"{rows.start}..{rows.stop}: ends after the {count} images (--n)", param_hint="'--rows'"
        )
    return rows


def _fetch(client: GanClient, record: SampleRecord, done: int) -> Iterator[SampleRows]:
    model, version, seed = record.model, record.version, record.seed
    first_row = record.first_row + done
    count = record.end_row - first_row
    if record.format == "pixels":
        for chunk in client.generate_chunks(model, version=version, seed=seed, count=count, first_row=first_row):
            yield chunk.images
        return
    for files in client.generate_encoded_chunks(
        model, version=version, seed=seed, count=count, first_row=first_row, format=record.format
    ):
        yield files.files


def _raise_with_remedy(error: GanClientError, sampling: Sampling, record: SampleRecord, out: Path) -> NoReturn:
    if sampling.rows_done:
        done = f"{sampling.rows_done} of {len(record.rows)} images are kept"
        raise type(error)(f"{error}; {done} for {out}; run the same command to resume") from error
    raise error


def _summary(sampling: Sampling, record: SampleRecord, out: Path) -> str:
    name = click.format_filename(out)
    count = len(record.rows)
    images = counted(count, "image")
    part = f", {record.first_row}..{record.end_row} of {record.count}" if count < record.count else ""
    what = f"of {record.model}:{record.version} (seed {record.seed}{part})"
    if sampling.rows_done < count:
        return one_line(
            f"{name}: interrupted; {sampling.rows_done} of {images} {what} are kept; run the same command to resume"
        )
    if sampling.rows_before == count:
        return one_line(f"{name}: {images} {what}, already complete")
    before = f", {sampling.rows_before} of them from an earlier run" if sampling.rows_before else ""
    return one_line(f"{name}: {images} {what}{before}")


def _facts(sampling: Sampling, record: SampleRecord, out: Path, took_s: float) -> dict[str, object]:
    return {
        "out": click.format_filename(out),
        **asdict(record),
        "done": sampling.rows_done,
        "from_before": sampling.rows_before,
        "complete": sampling.rows_done == len(record.rows),
        "seconds": round(took_s, 3),
    }
