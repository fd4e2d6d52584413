"""`python -m trainer`: flags -> config -> train, and what the user reads afterwards."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from trainer.config import AnyConfig, check_config, check_flags, override, to_json, with_precision
from trainer.data.datasets import check_dataset_name
from trainer.errors import TrainingDivergedError, UserError
from trainer.exits import EXIT_INTERRUPTED, StopOnSignal, fail, mistakes_in_one_line
from trainer.flags import FIELDS, training_flags
from trainer.parallel import (
    PeerError,
    any_of_all,
    choose_device,
    first_speaks,
    is_first,
    joined,
    texts_of_all,
    together,
)
from trainer.presets import MODELS, choose_preset
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolder
from trainer.runs.wandb_log import check_wandb, wandb_logs
from trainer.training.kinds import check_can_train, describe_data, foresee_growth, load_with_config
from trainer.training.loop import Summary, train

# Beside those of exits.py.
EXIT_DIVERGED = 1
EXIT_GIVEN_UP = 3
EXIT_PEER = 4


@click.command(context_settings={"max_content_width": 100, "show_default": True})
@training_flags
def main(
    *,
    model: str | None,
    preset: str | None,
    dataset: str | None,
    resume: Path | None,
    wandb: str | None,
    dry_run: bool,
    **flags: Any,
) -> None:
    """Trains a GAN: images in, run folder out. The last line printed is the run folder."""
    progress = Progress()
    with mistakes_in_one_line("interrupted before training began; no run was made"):
        try:
            if wandb is not None:
                check_wandb(wandb)
            with joined():
                if resume is not None:
                    flags |= {"model": model, "preset": preset, "dataset": dataset, "dry_run": dry_run or None}
                    _resume(resume, progress, _given(flags), wandb)
                    return
                out = flags.pop("out") or Path("runs")
                with together():
                    configs = _resolve_all(model, preset, dataset, flags)
                if dry_run:
                    for config in configs:
                        click.echo(to_json(config))
                    return
                _train_all(configs, out, progress, wandb)
        except PeerError as error:
            fail(f"{error}; what it said tells why. Go on from the last checkpoint with --resume", EXIT_PEER)
        except TrainingDivergedError as error:
            fail(str(error), EXIT_DIVERGED)


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if value is not None}


def _resolve_all(model: str | None, preset: str | None, dataset: str | None, flags: dict[str, Any]) -> list[AnyConfig]:
    if model is None:
        raise UserError(f"--model is missing: choose one of {', '.join(MODELS)}, all")
    if model == "all" and preset is not None:
        raise UserError("--preset goes with one model, not with --model all")
    return [_resolve(name, preset, dataset, flags) for name in (MODELS if model == "all" else [model])]


def _resolve(model: str, preset: str | None, dataset: str | None, flags: dict[str, Any]) -> AnyConfig:
    """Preset, then flags; everything that can be checked without touching data is checked."""
    if dataset is not None:
        check_dataset_name(dataset)
    settings = _settings(_given(flags))
    config = override(choose_preset(model, preset, dataset), settings)
    check_config(config)
    check_flags(config, (field.rpartition(".")[2] for field in settings))
    return with_precision(config, flags["precision"] or "auto", choose_device(config.device))


def _settings(flags: dict[str, Any]) -> dict[str, Any]:
    both = {"generator_lr": flags["lr"], "discriminator_lr": flags["lr"]} if "lr" in flags else {}
    settings = both | {FIELDS[name]: value for name, value in flags.items() if name in FIELDS}
    lengths = [name for name in ("epochs", "steps", "images") if name in flags]
    if len(lengths) > 1:
        raise UserError(f"{' and '.join(f'--{name}' for name in lengths)}: give one of them")
    if lengths:
        settings |= {"epochs": None, "steps": None, "images": None, lengths[0]: flags[lengths[0]]}
    return settings


def _train_all(configs: list[AnyConfig], out: Path, progress: Progress, wandb: str | None) -> None:
    """Trains one config after another; one that diverges does not keep the others from their turn."""
    with together():
        prepared = [load_with_config(config, progress) for config in configs]
        for config, data in prepared:
            check_can_train(config, data, choose_device(config.device))
    summaries: list[tuple[AnyConfig, Summary]] = []
    diverged: list[str] = []
    with StopOnSignal() as stop:
        for config, data in prepared:
            run = _new_run(out, config)
            progress.say(
                f"training {config.model} ({config.preset}) on {config.dataset}: {describe_data(data)} -> {run.path}"
            )
            progress.say(to_json(config))
            if (warning := foresee_growth(config, data)) is not None:
                progress.say(warning)
            try:
                with wandb_logs(wandb if is_first() else None, run.path, config) as logs:
                    summary = train(config, run, data, progress, stop_requested=stop, logs=logs)
                summaries.append((config, summary))
            except TrainingDivergedError as error:
                diverged.append(f"{config.model}: {error}")
                progress.say(diverged[-1])
            if any_of_all(stop.requested):
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
        fail("; ".join(diverged), EXIT_DIVERGED)
    if any(summary.given_up for _, summary in summaries):
        sys.exit(EXIT_GIVEN_UP)


def _new_run(out: Path, config: AnyConfig) -> RunFolder:
    with together():
        made = str(RunFolder.create(out, config).path) if is_first() else ""
    return RunFolder(Path(texts_of_all(made)[0]))


def _resume(path: Path, progress: Progress, flags: dict[str, Any], wandb: str | None) -> None:
    allowed = {"epochs", "steps", "images", "device", "data_root", "compile"}
    for name in flags:
        if name not in allowed:
            raise UserError(
                f"--{name.replace('_', '-')}: does not go with --resume, which goes on as the run began;"
                " only --epochs, --steps, --images, --device, --data-root, --compile and --wandb do"
            )
    with together():
        run = RunFolder.open(path)
        config = override(run.read_config(), _settings(flags))
        check_config(config)
        choose_device(config.device)
        config, data = load_with_config(config, progress)
    with StopOnSignal() as stop, wandb_logs(wandb if is_first() else None, run.path, config) as logs:
        summary = train(config, run, data, progress, resume=True, stop_requested=stop, logs=logs)
    _finish([(config, summary)], progress)
    if summary.given_up:
        sys.exit(EXIT_GIVEN_UP)


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
    for _, summary in summaries:
        for notice in summary.notices:
            progress.say(f"{summary.run.name} was warned at step {notice.step}: {notice.text}")
        if summary.given_up:
            progress.say(
                f"{summary.run.name} was given up at step {summary.step} (--on-collapse stop); its last checkpoint is"
                f" whole: go on all the same with python -m trainer --resume {summary.run}"
            )
    if last.interrupted:
        progress.say(f"interrupted at step {last.step}; go on with: python -m trainer --resume {last.run}")
    elif not last.given_up:
        progress.say(f"export it with: python -m exporter {last.run}")
    click.echo(str(last.run))
    if last.interrupted:
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    with first_speaks():
        main()
