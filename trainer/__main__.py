"""`python -m trainer`: flags -> config -> train, and what the user reads afterwards."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import click
from rich.table import Table

from trainer.checkpoint import RunFolder
from trainer.config import AnyConfig, check_config, check_flags, gains_by_bf16, override, to_json, with_channels
from trainer.data import check_dataset_name
from trainer.errors import TrainingDivergedError, UserError
from trainer.flags import FIELDS, training_flags
from trainer.kinds import Data, check_data, describe_data, foresee_growth, load_data
from trainer.loop import Summary, choose_device, train
from trainer.precision import choose_precision
from trainer.presets import MODELS, choose_preset
from trainer.progress import Progress

EXIT_DIVERGED = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


class _StopOnSignal:
    """While entered, Ctrl-C and SIGTERM ask the loop to stop after the current step; a second one stops at once."""

    def __init__(self) -> None:
        self.requested = False
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> _StopOnSignal:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        signal.signal(number, signal.SIG_DFL)

    def __call__(self) -> bool:
        return self.requested


@click.command(context_settings={"max_content_width": 100, "show_default": True})
@training_flags
def main(
    *, model: str | None, preset: str | None, dataset: str | None, resume: Path | None, dry_run: bool, **flags: Any
) -> None:
    """Trains a GAN: images in, run folder out. The last line printed is the run folder."""
    progress = Progress()
    try:
        if resume is not None:
            flags |= {"model": model, "preset": preset, "dataset": dataset, "dry_run": dry_run or None}
            _resume(resume, progress, _given(flags))
            return
        out = flags.pop("out") or Path("runs")
        if model is None:
            raise UserError(f"--model is missing: choose one of {', '.join(MODELS)}, all")
        if model == "all" and preset is not None:
            raise UserError("--preset goes with one model, not with --model all")
        configs = [_resolve(name, preset, dataset, flags) for name in (MODELS if model == "all" else [model])]
        if dry_run:
            for config in configs:
                click.echo(to_json(config))
            return
        _train_all(configs, out, progress)
    except UserError as error:
        _fail(str(error), EXIT_USER_ERROR)
    except TrainingDivergedError as error:
        _fail(str(error), EXIT_DIVERGED)
    except OSError as error:
        _fail(f"{str(error.filename or 'a file')[:200]}: {error.strerror}", EXIT_USER_ERROR)
    except KeyboardInterrupt:
        _fail("interrupted before training began; no run was made", EXIT_INTERRUPTED)


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if value is not None}


def _resolve(model: str, preset: str | None, dataset: str | None, flags: dict[str, Any]) -> AnyConfig:
    """Preset, then flags; everything that can be checked without touching data is checked."""
    if dataset is not None:
        check_dataset_name(dataset)
    settings = _settings(_given(flags))
    config = override(choose_preset(model, preset, dataset), settings)
    check_config(config)
    check_flags(config, (field.rpartition(".")[2] for field in settings))
    precision = flags["precision"] or "auto"
    chosen = choose_precision(precision, choose_device(config.device), gains=gains_by_bf16(config))
    return override(config, {"precision": chosen})


def _settings(flags: dict[str, Any]) -> dict[str, Any]:
    both = {"generator_lr": flags["lr"], "discriminator_lr": flags["lr"]} if "lr" in flags else {}
    settings = both | {FIELDS[name]: value for name, value in flags.items() if name in FIELDS}
    lengths = [name for name in ("epochs", "steps", "images") if name in flags]
    if len(lengths) > 1:
        raise UserError(f"{' and '.join(f'--{name}' for name in lengths)}: give one of them")
    if lengths:
        settings |= {"epochs": None, "steps": None, "images": None, lengths[0]: flags[lengths[0]]}
    return settings


def _train_all(configs: list[AnyConfig], out: Path, progress: Progress) -> None:
    """Trains one config after another; one that diverges does not keep the others from their turn."""
    prepared = [_with_data(config, progress) for config in configs]
    for config, data in prepared:
        check_data(config, data)
    summaries: list[tuple[AnyConfig, Summary]] = []
    diverged: list[str] = []
    with _StopOnSignal() as stop:
        for config, data in prepared:
            run = RunFolder.create(out, config)
            progress.say(
                f"training {config.model} ({config.preset}) on {config.dataset}: {describe_data(data)} -> {run.path}"
            )
            progress.say(to_json(config))
            if (warning := foresee_growth(config, data)) is not None:
                progress.say(warning)
            try:
                summaries.append((config, train(config, run, data, progress, stop_requested=stop)))
            except TrainingDivergedError as error:
                diverged.append(f"{config.model}: {error}")
                progress.say(diverged[-1])
            if stop.requested:
                break
    untrained = [config.model for config, _ in prepared[len(summaries) + len(diverged) :]]
    if untrained:
        progress.say(f"interrupted before {', '.join(untrained)}")
    if not summaries:
        raise TrainingDivergedError("; ".join(diverged))
    _finish(summaries, progress)
    if untrained:
        sys.exit(EXIT_INTERRUPTED)
    if diverged:
        _fail("; ".join(diverged), EXIT_DIVERGED)


def _resume(path: Path, progress: Progress, flags: dict[str, Any]) -> None:
    allowed = {"epochs", "steps", "images", "device", "data_root"}
    for name in flags:
        if name not in allowed:
            raise UserError(
                f"--{name.replace('_', '-')}: does not go with --resume, which goes on as the run began;"
                " only --epochs, --steps, --images, --device and --data-root do"
            )
    run = RunFolder.open(path)
    config = override(run.read_config(), _settings(flags))
    check_config(config)
    choose_device(config.device)
    config, data = _with_data(config, progress)
    with _StopOnSignal() as stop:
        summary = train(config, run, data, progress, resume=True, stop_requested=stop)
    _finish([(config, summary)], progress)


def _with_data(config: AnyConfig, progress: Progress) -> tuple[AnyConfig, Data]:
    """Decodes the data set, which decides the number of channels; paths are made absolute, for a later --resume."""
    kind, colon, path = config.dataset.partition(":")
    dataset = f"{kind}:{Path(path).absolute()}" if colon else config.dataset
    config = override(config, {"dataset": dataset, "data_root": str(Path(config.data_root).absolute())})
    data = load_data(config, progress)
    return with_channels(config, data.channels), data


def _finish(summaries: list[tuple[AnyConfig, Summary]], progress: Progress) -> None:
    """Sums up; the last line printed is the run folder."""
    table = Table(title="What was trained")
    for heading in ("model", "preset", "steps", "size", "images/s", "time", "score", "last", "best", "run"):
        table.add_column(heading, overflow="fold")
    for config, summary in summaries:
        table.add_row(
            config.model,
            config.preset,
            str(summary.step),
            f"{summary.output_size}x{summary.output_size}",
            f"{summary.images_per_s:.4g}",
            f"{summary.train_seconds:.0f} s",
            summary.score_name,
            "-" if summary.score is None else f"{summary.score:.3g}",
            "-" if summary.best_score is None else f"{summary.best_score:.3g}",
            str(summary.run),
        )
    progress.console.print(table)
    last = summaries[-1][1]
    for explanation in dict.fromkeys(summary.score_explanation for _, summary in summaries):
        progress.say(explanation)
    progress.say(f"pictures: {last.run / 'figures'} and {last.run / 'samples'}")
    if last.interrupted:
        progress.say(f"interrupted at step {last.step}; go on with: python -m trainer --resume {last.run}")
    else:
        progress.say(f"export it with: python -m exporter {last.run}")
    click.echo(str(last.run))
    if last.interrupted:
        sys.exit(EXIT_INTERRUPTED)


def _fail(message: str, code: int) -> None:
    click.echo(f"Error: {' '.join(message.split())}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
