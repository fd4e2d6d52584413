"""Turns flags into a source and a request, and prints the metrics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from ganserve.files import replace_file
from ganserve.machine import limit_torch_threads
from ganserve.metrics import METRICS, STANDARD_ERROR
from trainer.config import override
from trainer.data.datasets import LABELLED, normal_name
from trainer.errors import UserError
from trainer.evaluate.evaluation import Request, Result, evaluate, evaluate_translators, keep
from trainer.evaluate.sources import ServedSource, Source, open_path, open_run
from trainer.exits import mistakes_in_one_line
from trainer.metrics.measure_names import DEFAULT_MEASURES, INCEPTION_MEASURES, LABEL_MEASURES, MEASURE_NAMES
from trainer.metrics.scorer import Scores, shown
from trainer.parallel import choose_device
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolder

_DEFAULT_CORRUPT_IMAGES = 50


def run(flags: dict[str, Any], *, as_json: bool, out: Path | None) -> None:
    """Scores a source and prints the metrics; `flags` are those of the command line."""
    progress = Progress(Console(stderr=True, emoji=False, highlight=False, soft_wrap=True)) if as_json else Progress()
    limit_torch_threads()
    with mistakes_in_one_line("interrupted; nothing was written"):
        result, folder = _evaluate(_Flags(**flags), progress)
        content = msgspec.json.format(msgspec.json.encode(_plain(result)), indent=2)
        if out is not None:
            replace_file(out, content + b"\n")
        if as_json:
            click.echo(content.decode())
            return
        _print(result, progress)
        if folder is not None:
            progress.say(f"added to {folder.evaluations.path}")


@dataclass(frozen=True, kw_only=True)
class _Flags:
    """The flags; None means not given."""

    source: Path | None
    checkpoint: str | None
    runtime: Any
    latent_dim: int | None
    address: str | None
    model: str | None
    version: int | None
    dataset: str | None
    data_root: Path | None
    split: str
    images: int | None
    measures: str | None
    inception_weights: Path | None
    seed: int
    device: Any
    real_floor: bool


def _evaluate(flags: _Flags, progress: Progress) -> tuple[Result, RunFolder | None]:
    if (flags.source is None) == (flags.address is None):
        raise UserError("SOURCE or --address: give either a path or a server")
    measures = _measures(flags)
    device = choose_device(flags.device)
    is_run = flags.source is not None and (flags.source / "config.json").is_file()
    _check_applies(flags, "a server" if flags.source is None else "a run" if is_run else "a bundle or file")
    folder, checkpoint = None, flags.checkpoint or "best"
    dataset, data_root, max_corrupt_images = "", Path("data"), _DEFAULT_CORRUPT_IMAGES
    if flags.source is not None and is_run:
        folder = RunFolder.open(flags.source)
        folder.checkpoint_path(checkpoint)
        config = folder.read_config()
        dataset, data_root, max_corrupt_images = config.dataset, Path(config.data_root), config.max_corrupt_images
        if not config.takes_latents:
            _check_translators(flags)
            if flags.dataset is not None:
                config = override(config, {"dataset": normal_name(flags.dataset)})
            result = Result(evaluate_translators(flags.source, checkpoint, config, device, progress))
            keep(folder, checkpoint, result)
            return result, folder
    source = _open(flags, checkpoint, dataset, device)
    dataset = normal_name(flags.dataset) if flags.dataset else source.facts.dataset
    if not dataset:
        raise UserError("--dataset: the source does not name its data set; give --dataset folder:PATH or mnist")
    if flags.measures == "all" and dataset not in LABELLED:
        measures = tuple(name for name in measures if name not in LABEL_MEASURES)
    request = Request(
        dataset=dataset,
        data_root=flags.data_root or data_root,
        max_corrupt_images=max_corrupt_images,
        split=flags.split,
        images=flags.images,
        measures=measures,
        seed=flags.seed,
        device=device,
        inception_weights=flags.inception_weights,
        real_floor=flags.real_floor,
    )
    result = evaluate(source, request, progress)
    if folder is not None:
        keep(folder, checkpoint, result)
    return result, folder


def _open(flags: _Flags, checkpoint: str, dataset: str, device: Any) -> Source:
    if flags.address is not None:
        if flags.model is None:
            raise UserError("--model is missing: name a model of the server")
        return ServedSource(flags.address, flags.model, flags.version)
    assert flags.source is not None
    if dataset:
        return open_run(flags.source, checkpoint, dataset, device)
    return open_path(flags.source, flags.runtime, flags.latent_dim)


def _check_applies(flags: _Flags, kind: str) -> None:
    """Raises UserError if a flag is given that does not apply to this kind of source."""
    only = {"checkpoint": "a run", "runtime": "a bundle or file", "latent_dim": "a bundle or file"}
    only |= {"model": "a server", "version": "a server"}
    for name, owner in only.items():
        if owner != kind and getattr(flags, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            if owner == "a server":
                raise UserError(f"{flag}: needs --address; for a bundle, give the folder of the version")
            raise UserError(f"{flag}: applies only to {owner}, not to {kind}; leave it out")


def _measures(flags: _Flags) -> tuple[str, ...]:
    """The requested measures, in the order of MEASURE_NAMES.

    Raises:
        UserError: no such measure, or its weights are missing.
    """
    inception = flags.inception_weights is not None
    if flags.measures is None:
        return (*DEFAULT_MEASURES, *(INCEPTION_MEASURES if inception else ()))
    names = [name.strip() for name in flags.measures.split(",")]
    if names == ["all"]:
        return tuple(name for name in MEASURE_NAMES if inception or name not in INCEPTION_MEASURES)
    for name in names:
        if name not in MEASURE_NAMES:
            raise UserError(f"--measures {name!r}: choose some of {', '.join(MEASURE_NAMES)}, or all")
        if name in INCEPTION_MEASURES and not inception:
            raise UserError(f"--measures {name}: give --inception-weights FILE as well")
    return tuple(name for name in MEASURE_NAMES if name in names)


def _check_translators(flags: _Flags) -> None:
    refused = {
        "--measures": flags.measures,
        "--inception-weights": flags.inception_weights,
        "--images": flags.images,
        "--real-floor": flags.real_floor or None,
    }
    for name, value in refused.items():
        if value is not None:
            raise UserError(f"{name}: does not apply to a CycleGAN, which is scored on its test images as in training")


def _plain(result: Result) -> dict[str, Any]:
    """The content of the JSON; values that are not finite become null."""
    content: dict[str, Any] = {"metrics": result.scores.metrics, "protocol": result.scores.protocol}
    if result.floor is not None:
        content["floor"] = {"metrics": result.floor.metrics, "protocol": result.floor.protocol}
    return content


def _print(result: Result, progress: Progress) -> None:
    table = Table(title="Metrics, with their standard errors", title_justify="left", box=None, pad_edge=False)
    for heading in ("metric", "value", *(["reals"] if result.floor else []), "better"):
        table.add_column(heading, justify="left" if heading in {"metric", "better"} else "right")
    for name in result.scores.metrics:
        metric = METRICS[name]
        columns = (result.scores, result.floor) if result.floor else (result.scores,)
        values = (_with_error(name, scores) for scores in columns)
        table.add_row(metric.label, *values, metric.better)
    progress.console.print(table)
    for name in result.scores.metrics:
        progress.say(f"{METRICS[name].label}: {METRICS[name].explanation}")
    protocol = {name: value for name, value in result.scores.protocol.items() if not name.endswith(STANDARD_ERROR)}
    parts = (f"{name} {_short(value)}" for name, value in protocol.items())
    progress.say(f"protocol: {', '.join(parts)}")
    if result.floor is not None and result.floor.protocol["real_images"] != result.scores.protocol["real_images"]:
        progress.say(
            f"the floor compares {result.floor.protocol['real_images']} real images with as many others. Fewer images"
            " make every distance larger, so give --images of at most half the data to compare"
        )


def _with_error(name: str, scores: Scores) -> str:
    error = scores.protocol.get(f"{name}{STANDARD_ERROR}", math.nan)
    return shown(scores.metrics.get(name, math.nan), error)


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "/".join(shown(each) for each in value)
    if isinstance(value, float):
        return shown(value)
    return value[:12] if isinstance(value, str) and len(value) == 64 else str(value)
