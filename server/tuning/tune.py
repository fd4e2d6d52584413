"""`python -m server tune`: measures the models of a repository on this machine and prints the best flags to serve them.

measure.py measures and choice.py chooses.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from ganserve.bundle import BundleError, Card, list_models, list_versions, read_card, version_folder
from server.config import ServerConfig
from server.engines.bf16 import bf16_layout, has_bf16
from server.engines.layouts import Layout, batch_sizes
from server.engines.loading import batch_rows, load_cuda_instances, load_group
from server.errors import StartupError
from server.models.repository import no_model_in
from server.scheduling.instances import Instance
from server.tuning.choice import Choice, choose, cpu_layouts
from server.tuning.measure import Bench, LoadGroup, Measured, Measurements, measure_model

_log = logging.getLogger(__name__)


class Plan(NamedTuple):
    """What to measure of a model."""

    device: str  # "cpu", "cuda"
    layouts: Sequence[Layout]  # in float32
    load: LoadGroup
    bf16: bool = False  # whether to measure the chosen layout in bfloat16, too


PlanModel = Callable[[Path, Card, ServerConfig], Plan]


def tune(
    config: ServerConfig,
    names: Sequence[str],
    seconds: float,
    *,
    console: Console | None = None,
    plan_model: PlanModel | None = None,
    bench: Bench | None = None,
) -> None:
    """Measures models, and prints a table, the chosen settings and the flags for each.

    Args:
        config: config of the server to tune: models, device, max_batch_size.
        names: names of the models; empty for all.
        seconds: time budget for all models, excluding loading.
        console: where to print.
        plan_model: decides what to measure of a model.
        bench: the clock and the threads.

    Raises:
        StartupError: nothing can be measured.
    """
    console, bench = console or Console(), bench or Bench()
    chosen = _names(config.models, names)
    models: dict[str, tuple[str, ...]] = {}
    end = bench.clock() + seconds
    used = config  # switches to the CPU once CUDA has failed
    for index, name in enumerate(chosen):
        left_s = end - bench.clock()
        if models and left_s <= 0:
            missing = " ".join(f"--model {other}" for other in chosen[index:])
            console.print(
                f"no time was left for {', '.join(chosen[index:])}: raise --seconds, or {missing}", markup=False
            )
            break
        with _Shown(console, name, left_s / (len(chosen) - index), bench) as shown:
            found = _measure_newest(used, name, shown, plan_model or plan_layouts, bench)
        if found is None:
            continue
        device, choice, table = found
        if device == "cpu":
            used = replace(config, device="cpu")
        models[name] = _flags(device, choice)
        _show(console, name, table, choice)
    if not models:
        raise StartupError(f"--models: no model in {config.models} works; the lines above say why, export them again")
    _show_commands(console, config, models)


def plan_layouts(folder: Path, card: Card, config: ServerConfig) -> Plan:
    """Plans what to measure of a model: the engines that the server would load on this machine.

    Raises:
        BundleError: the version is broken.
        StartupError: the device is not available.
    """
    if (cuda := load_cuda_instances(folder, card, config)) is not None:
        instances = cuda.groups.instances
        return Plan("cuda", [Layout("onnx", "fp32", len(instances), 1)], lambda _: instances)
    rows = batch_rows(card, config)

    def load(layout: Layout) -> Sequence[Instance]:
        return load_group(folder, card, layout, "tuned", rows, warm_rows=1)

    return Plan("cpu", cpu_layouts(config.usable_cores), load, has_bf16(card))


class _Shown:
    """A progress bar for the time budget of one model."""

    def __init__(self, console: Console, name: str, seconds: float, bench: Bench) -> None:
        self.seconds = seconds
        self._name = name
        self._clock = bench.clock
        self._began = self._clock()
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, transient=True)
        self._task = TaskID(0)

    def __enter__(self) -> _Shown:
        self._task = self._progress.add_task(escape(f"{self._name}: load"), total=self.seconds)
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def measured(self, cell: Measured) -> None:
        text = f"{self._name}: {cell.layout}, {cell.rows} rows: {cell.images_per_s:,.0f} images/s"
        self._progress.update(self._task, description=escape(text), completed=self._clock() - self._began)


def _names(repository: Path, names: Sequence[str]) -> list[str]:
    try:
        known = list_models(repository)
    except BundleError as error:
        raise StartupError(f"--models: {error}") from error
    except OSError as error:
        raise StartupError(f"--models: {repository} cannot be read ({error.strerror}); fix its permissions") from error
    if not known:
        raise StartupError(f"--models: {no_model_in(repository)}")
    if unknown := sorted(set(names) - set(known)):
        raise StartupError(f"--model: there is no {unknown[0]!r} in {repository}; it holds {', '.join(known)}")
    return [name for name in known if not names or name in names]


def _measure_newest(
    config: ServerConfig, name: str, shown: _Shown, plan_model: PlanModel, bench: Bench
) -> tuple[str, Choice, list[Measured]] | None:
    """Measures the newest version that works, because the server serves that one."""
    try:
        numbers = list_versions(config.models, name)
    except OSError as error:
        _log.warning("%s: its folder cannot be read, so the model is not measured: %s", name, error)
        return None
    for number in reversed(numbers):
        folder = version_folder(config.models, name, number)
        try:
            card = read_card(folder)
            plan = plan_model(folder, card, config)
            rows = batch_rows(card, config)
            table, cut_short = _measure(card, plan, rows, shown, bench)
        except (BundleError, OSError) as error:
            _log.warning("%s:%d is broken and not measured: %s", name, number, error)
        else:
            return plan.device, choose(table, rows, cut_short), table
    return None


def _measure(card: Card, plan: Plan, max_rows: int, shown: _Shown, bench: Bench) -> Measurements:
    sizes = batch_sizes(max_rows)
    layout_s = shown.seconds / (len(plan.layouts) + plan.bf16)
    found = measure_model(card, plan.layouts, sizes, plan.load, layout_s * len(plan.layouts), shown.measured, bench)
    if plan.bf16:
        reduced = bf16_layout(choose(found.table, max_rows, found.cut_short).layout)
        try:
            table, cut_short = measure_model(card, [reduced], sizes, plan.load, layout_s, shown.measured, bench)
        except (BundleError, StartupError) as error:
            _log.warning("%s is not measured in bf16: %s", card.name, error)
        else:
            return Measurements(found.table + table, found.cut_short | cut_short)
    return found


def _flags(device: str, choice: Choice) -> tuple[str, ...]:
    flags = ["--max-batch-size", str(choice.max_batch_rows)]
    if device == "cpu":
        flags = ["--engines", str(choice.layout.engines), *flags]
    if choice.precision != "fp32":
        flags += ["--precision", choice.precision]
    return tuple(flags)


def _show(console: Console, name: str, table: Sequence[Measured], choice: Choice) -> None:
    """Prints a table of images per second, the best with a star, and a line that explains the choice."""
    best = max(cell.images_per_s for cell in table)
    console.print(f"{name}: images per second, by engines x threads and rows per batch", markup=False, soft_wrap=True)
    shown = Table()
    shown.add_column("rows", justify="right")
    rates = {(cell.layout, cell.rows): cell.images_per_s for cell in table}
    layouts = list(dict.fromkeys(cell.layout for cell in table))
    for layout in layouts:
        precision = "" if layout.precision == "fp32" else f"{layout.precision} "
        style = "bold" if layout == choice.layout else None
        heading = f"{precision}{layout.engines} x {layout.threads}"
        shown.add_column(heading, justify="right", no_wrap=True, style=style)
    for rows in sorted({cell.rows for cell in table}):
        row = [rates.get((layout, rows)) for layout in layouts]
        shown.add_row(
            str(rows), *("" if rate is None else f"{rate:,.0f}{'*' if rate == best else ' '}" for rate in row)
        )
    console.print(shown)
    console.print(f"{name}: {choice.why}", markup=False, highlight=False, soft_wrap=True)


def _show_commands(console: Console, config: ServerConfig, models: dict[str, tuple[str, ...]]) -> None:
    command = ["python", "-m", "server"]
    if config.models != ServerConfig.models:
        command += ["--models", str(config.models)]
    if config.device != ServerConfig.device:
        command += ["--device", config.device]
    if config.cores is not None:
        command += ["--cores", str(config.cores)]
    choices = list(dict.fromkeys(models.values()))
    lines = ["Serve with:"]
    for flags in choices:
        suited = ", ".join(name for name, others in models.items() if others == flags)
        lines.append(f"  {shlex.join([*command, *flags])}" + (f"  # suits {suited}" if len(choices) > 1 else ""))
    if len(choices) > 1:
        lines.append("The flags apply to all models of a server: use those of the model with the most traffic.")
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
