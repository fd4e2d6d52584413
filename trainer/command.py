"""What `python -m trainer` does: resolves the flags to configs, trains them, and prints a summary."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from rich.console import Console
from rich.table import Table

from ganserve.command_line import fail
from ganserve.machine import limit_torch_threads
from trainer.config import AnyConfig, check_flags, from_json, override, to_json, with_precision
from trainer.data.datasets import check_dataset_name, is_own, normal_name
from trainer.data.inspection import Inspection, inspect
from trainer.errors import TrainingDivergedError, UserError
from trainer.exits import EXIT_INTERRUPTED, StopOnSignal, mistakes_in_one_line
from trainer.flags import FIELDS, MODELS
from trainer.models import shown_size
from trainer.own_pictures import recipe_for
from trainer.parallel import PeerError, any_of_all, choose_device, is_first, joined, texts_of_all, together
from trainer.plan import Plan
from trainer.presets import choose_preset, print_presets
from trainer.progress import Progress
from trainer.runs import plots
from trainer.runs.initial_weights import check_initial_weights, with_growth_continued
from trainer.runs.run_folder import RunFolder
from trainer.runs.wandb_log import check_wandb, wandb_logs
from trainer.settings import LENGTHS, fields_of, parse_setting
from trainer.settings_table import settings_table
from trainer.training.figures_table import figures_table
from trainer.training.kinds import Data, Decoded, check_can_train, growth_warning, load_with_config
from trainer.training.loop import train
from trainer.training.session import Summary

# In addition to the exit codes in exits.py.
EXIT_DIVERGED: Final = 1
EXIT_GIVEN_UP: Final = 3
EXIT_PEER: Final = 4

_RESUME_FLAGS: Final = (
    *("epochs", "steps", "images", "device", "data_root", "compile", "wandb"),
    *("dataset", "batch_size", "lr", "generator_lr", "discriminator_lr"),
)
_CHANGE_THE_RUN: Final = ("batch_size", "generator_lr", "discriminator_lr")  # fields of the config


def run(flags: dict[str, Any]) -> None:
    """Runs the command; exits the process with one line on an error.

    Args:
        flags: by the names of flags.py; None if the flag is not given.
    """
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    progress = Progress()
    if "dataset" in given:
        given["dataset"] = normal_name(given["dataset"])
    if "list_presets" in given:
        print_presets(progress)
        return
    limit_torch_threads()
    with mistakes_in_one_line("interrupted before training began; no run was created"):
        try:
            if "wandb" in given:
                check_wandb(given["wandb"])
            with joined():
                if "resume" in given:
                    _resume(given.pop("resume"), given, progress)
                    return
                with together():
                    configs = _resolve(given)
                if "show_config" in given:
                    for config in configs:
                        progress.console.print(settings_table(config))
                    return
                if "dry_run" in given:
                    _plan(configs, progress)
                    return
                _train_all(configs, given.get("out", Path("runs")), progress, given.get("wandb"))
        except PeerError as error:
            fail(f"{error}; its own message says why. Continue from the last checkpoint with --resume", EXIT_PEER)
        except TrainingDivergedError as error:
            fail(str(error), EXIT_DIVERGED)


def _resolve(given: dict[str, Any]) -> list[AnyConfig]:
    """The configs to train: recipes with flags applied, checked as far as possible without data."""
    if "dataset" in given:
        check_dataset_name(given["dataset"])
    settings = _settings(given)
    if settings.get("init_from"):  # the recipe may name a checkpoint of another run
        settings = {"init_checkpoint": "best"} | settings
    configs = []
    for recipe, precision in _recipes(given):
        config = override(recipe, settings)
        config.check()
        check_flags(config, (field.rpartition(".")[2] for field in settings))
        config = with_precision(config, given.get("precision", precision), choose_device(config.device))
        configs.append(with_growth_continued(config))
    return configs


def _recipes(given: dict[str, Any]) -> list[tuple[AnyConfig, str]]:
    """The configs that flags change, with their precision: presets, or the config of another run."""
    model, preset, dataset = (given.get(name) for name in ("model", "preset", "dataset"))
    if "config" in given or (given.get("init_from") and model is None and preset is None):
        for name in ("model", "preset"):
            if name in given:
                raise UserError(f"--{name}: does not go with --config, which names its {name}; give one of the two")
        config = _read_config(given["config"] if "config" in given else Path(given["init_from"]))
        return [(config if dataset is None else override(config, {"dataset": dataset}), config.precision)]
    if model is None:
        raise UserError(f"--model is missing: choose one of {', '.join(MODELS)}, all")
    if model == "all" and preset is not None:
        raise UserError("--preset goes with one model, not with --model all")
    models = MODELS if model == "all" else [model]
    if preset is None and dataset is not None and is_own(dataset):
        device_type = choose_device(given.get("device", "auto")).type
        inspection = _inspect(dataset)
        return [(recipe_for(name, inspection, device_type, dataset), "auto") for name in models]
    return [(choose_preset(name, preset, dataset), "auto") for name in models]


def _inspect(dataset: str) -> Inspection:
    """What the user's own pictures are."""
    return inspect(Path(dataset.partition(":")[2]))


def _read_config(path: Path) -> AnyConfig:
    """The config of a run, or of a file as --dry-run prints it."""
    if not path.is_file():
        return RunFolder.open(path).read_config()
    try:
        return from_json(path.read_bytes())
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"--config {path}: not a valid config of this version of ganserve ({error})") from error


def _settings(given: dict[str, Any]) -> dict[str, Any]:
    """The fields of the config that the flags set."""
    named = {name: value for name, value in given.items() if name in FIELDS or name in {"lr", *LENGTHS}}
    for name, value in map(parse_setting, given.get("set", ())):
        if name in {"model", "preset", "dataset"}:
            raise UserError(f"--set {name}: choose it with --{name}")
        named[name] = value
    return fields_of(named)


def _plan(configs: list[AnyConfig], progress: Progress) -> None:
    """--dry-run: prints the configs, and on the standard error the data and time of one's own pictures."""
    told = Progress(Console(stderr=True, emoji=False, highlight=False, soft_wrap=True))
    decoded: Decoded = {}
    for config in configs:
        if is_own(config.dataset):
            resolved, data = load_with_config(config, told, decoded=decoded)
            _tell_plan(resolved, data, told)
        click.echo(to_json(config))


def _tell_plan(config: AnyConfig, data: Data, progress: Progress) -> None:
    inspection = _inspect(config.dataset) if is_own(config.dataset) else None
    Plan(config, data, inspection, choose_device(config.device)).tell(progress)


def _train_all(configs: list[AnyConfig], out: Path, progress: Progress, wandb: str | None) -> None:
    """Trains one config after another; a run that diverges does not stop the next ones."""
    with together():
        decoded: Decoded = {}
        prepared = [load_with_config(config, progress, decoded=decoded) for config in configs]
        for config, data in prepared:
            check_can_train(config, data, choose_device(config.device))
            check_initial_weights(config)
    for config, data in prepared:
        _tell_plan(config, data, progress)
    summaries: list[tuple[AnyConfig, Summary]] = []
    diverged: list[str] = []
    with StopOnSignal() as stop:
        for config, data in prepared:
            with together():
                created = str(RunFolder.create(out, config).path) if is_first() else ""
            run = RunFolder(Path(texts_of_all(created)[0]))
            progress.say(f"training {config.model} ({config.preset}) in {run.path}")
            if (warning := growth_warning(config, data)) is not None:
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
    if len(summaries) > 1 and is_first():
        _draw_side_by_side(summaries, progress)
    _finish(summaries, progress)
    if untrained:
        sys.exit(EXIT_INTERRUPTED)
    if diverged:
        fail("; ".join(diverged), EXIT_DIVERGED)
    if any(summary.given_up for _, summary in summaries):
        sys.exit(EXIT_GIVEN_UP)


def _draw_side_by_side(summaries: Sequence[tuple[AnyConfig, Summary]], progress: Progress) -> None:
    """Draws the last samples of all models of --model all in one picture."""
    grids = {config.model: max((summary.run / "samples").glob("step-*.png")) for config, summary in summaries}
    first = summaries[0][1].run
    path = first.with_name(f"{first.name.partition('-')[0]}-side-by-side.png")
    plots.save_side_by_side(grids, path)
    progress.say(f"all models side by side: {path}")


def _resume(path: Path, given: dict[str, Any], progress: Progress) -> None:
    for name in given:
        if name not in _RESUME_FLAGS:
            *others, last = (f"--{allowed.replace('_', '-')}" for allowed in _RESUME_FLAGS)
            raise UserError(
                f"--{name.replace('_', '-')}: does not go with --resume, which keeps the settings of the run;"
                f" only {', '.join(others)} and {last} do"
            )
    with ExitStack() as stack:
        with together():
            run = RunFolder.open(path)
            if is_first():  # before the data is decoded, and before anything is written
                stack.enter_context(run.locked())
        _continue(run, given, progress)


def _continue(run: RunFolder, given: dict[str, Any], progress: Progress) -> None:
    with together():
        begun = run.read_config()
        settings = _settings(given) | ({"dataset": given["dataset"]} if "dataset" in given else {})
        config = override(begun, settings)
        config.check()
        choose_device(config.device)
        if is_own(config.dataset) and not Path(config.dataset.partition(":")[2]).exists():
            remedy = "" if "dataset" in given else "; if it has moved, say where it is with --dataset PATH"
            raise UserError(f"--dataset {config.dataset}: no such folder or zip file{remedy}")
        config, data = load_with_config(config, progress, resumed=True)
    changes = [
        f"--{field.replace('_', '-')} {getattr(begun, field):g} -> {getattr(config, field):g}"
        for field in _CHANGE_THE_RUN
        if getattr(begun, field) != getattr(config, field)
    ]
    if changes:
        progress.say(
            f"note: {', '.join(changes)}. From here on, this run differs bit by bit from one with the same settings"
            " all along"
        )
    wandb = given.get("wandb") if is_first() else None
    with StopOnSignal() as stop, wandb_logs(wandb, run.path, config) as logs:
        summary = train(config, run, data, progress, resume=True, stop_requested=stop, logs=logs)
    _finish([(config, summary)], progress)
    if summary.given_up:
        sys.exit(EXIT_GIVEN_UP)


def _finish(summaries: list[tuple[AnyConfig, Summary]], progress: Progress) -> None:
    """Prints the summary of all runs; the last line is the last run folder."""
    table = Table(title="Trained runs", title_justify="left", box=None, pad_edge=False)
    for heading in ("model", "steps", "size", "images/s", "training", "run"):
        table.add_column(heading, overflow="fold")
    for config, summary in summaries:
        table.add_row(
            config.model,
            f"{summary.step:,}",
            shown_size(config.network.size_at(summary.output_size)),
            f"{summary.images_per_s:.4g}",
            f"{summary.train_seconds:.0f} s",
            summary.run.name,
        )
    progress.console.print(table)
    last = summaries[-1][1]
    for config, summary in summaries:
        if summary.last:
            progress.console.print(figures_table(config, summary))
    for metric in dict.fromkeys(config.METRICS[config.score_metric] for config, _ in summaries):
        progress.say(f"* chooses the best checkpoint. {metric}")
    progress.say(f"pictures: {last.run / 'figures'} and {last.run / 'samples'}")
    for _, summary in summaries:
        for notice in summary.notices:
            progress.say(f"{summary.run.name}: warning at step {notice.step}: {notice.text}")
        if summary.given_up:
            progress.say(
                f"{summary.run.name}: given up at step {summary.step} (--on-collapse stop) with a complete checkpoint;"
                f" continue anyway with: python -m trainer --resume {summary.run}"
            )
    if last.interrupted:
        progress.say(f"interrupted at step {last.step}; continue with: python -m trainer --resume {last.run}")
    elif not last.given_up:
        progress.say(f"export it with: python -m exporter {last.run}")
    click.echo(str(last.run))
    if last.interrupted:
        sys.exit(EXIT_INTERRUPTED)
