"""`python -m server tune`: measures the models of a repository on this machine and writes a profile.

Owns the order of things, and what is shown. How it is measured is in measuring.py, what is chosen in layouts.py, and
the file in profile.py.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from ganserve.bundle import ONNX_FILE, BundleError, Card, list_models, list_versions, read_card, version_folder
from ganserve.foreign import version_of
from server.config import Precision, ServerConfig
from server.engines.base import cuda_devices, usable_cores
from server.engines.layouts import Choice, batch_sizes, bf16_layouts, choose, cpu_layouts
from server.engines.loading import batch_rows, load_group
from server.engines.profile import Layout, Machine, Measured, Profile, TunedModel, processor_name, write_profile
from server.errors import StartupError
from server.scheduling.instances import Instance
from server.tuning.measure import Bench, FindVariants, LoadGroup, Measurements, measure_model

_log = logging.getLogger(__name__)
_ONNXRUNTIME: Final = ("onnxruntime-gpu", "onnxruntime")  # one package or the other


class Plan(NamedTuple):
    """What to measure of a model."""

    device: str  # "cpu", "cuda:0"
    layouts: Sequence[Layout]  # in fp32
    load: LoadGroup
    find_variants: FindVariants | None = None


PlanModel = Callable[[Path, Card, ServerConfig], Plan]


def tune(
    config: ServerConfig,
    names: Sequence[str],
    seconds: float,
    out: Path,
    *,
    console: Console | None = None,
    plan_model: PlanModel | None = None,
    bench: Bench | None = None,
) -> None:
    """Measures models, shows what suits each, and writes the profile.

    Args:
        config: of the server that is to be tuned: models, device, max_batch_size.
        names: of the models; none means all.
        seconds: to measure for, in all; loading comes on top.
        out: the file to write.
        console: where to show it.
        plan_model: says what to measure of a model.
        bench: the clock, and the threads.

    Raises:
        StartupError: nothing can be measured, or the file cannot be written.
    """
    console, bench = console or Console(), bench or Bench()
    if not 0 < seconds < math.inf:
        raise StartupError(f"--seconds {seconds:g}: measure for more than 0 seconds, and not for ever")
    chosen = _names(config.models, names)
    if not out.parent.is_dir() or out.is_dir():
        raise StartupError(f"--out: {out} cannot be written; name a file in a folder that exists")
    models: dict[str, TunedModel] = {}
    measured: dict[str, list[Measured]] = {}
    end = bench.clock() + seconds
    used = config  # the same, but for the device once that turns out to be the CPU
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
        card, device, (measured[name], left_out) = found
        if device == "cpu":
            used = replace(config, device="cpu")
        choice = choose(measured[name], device, left_out)
        models[name] = _tuned(card, device, choice)
        _show(console, name, measured[name], choice)
    if not models:
        raise StartupError(f"--models: no model in {config.models} works; the lines above say why, export them again")
    machine = Machine(processor_name(), usable_cores(), version_of(*_ONNXRUNTIME))
    write_profile(out, Profile(machine=machine, models=models, measured=measured))
    _show_next(console, config, models, out)


def plan_layouts(folder: Path, card: Card, config: ServerConfig) -> Plan:
    """What to measure of a model on this machine, as the server would load it.

    Raises:
        BundleError: the version is broken.
        StartupError: the device cannot be had.
    """
    rows = batch_rows(card, config)
    if config.device != "cpu" and cuda_devices():
        from server.engines.loading import load_cuda_instances

        try:  # at once, as nothing else says whether CUDA works
            instances = load_cuda_instances(folder, card, config, rows).groups.instances
        except StartupError as error:
            if config.device == "cuda":
                raise
            _log.warning("there is a CUDA device, but the CPU is measured: %s", error)
        else:
            return Plan("cuda:0", [Layout("onnx", "fp32", len(instances), 1)], lambda _: instances)
    elif config.device == "cuda":
        raise StartupError("--device cuda: the NVIDIA driver shows no device; install a driver, or use --device cpu")

    def load(layout: Layout) -> Sequence[Instance]:
        return load_group(folder, card, layout, "tuned", rows, warm_rows=1)

    variant = card.variants.get("bf16")
    bf16 = variant is not None and variant.published and importlib.util.find_spec("torch") is not None
    cores = usable_cores()

    def find_variants(table: Sequence[Measured], left_out: Mapping[Layout, int]) -> Sequence[Layout]:
        return bf16_layouts(table, cores, left_out)

    return Plan("cpu", cpu_layouts(cores), load, find_variants if bf16 else None)


class _Shown:
    """A bar that fills with the time of one model."""

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
        text = f"{self._name}: {cell.layout}, {cell.rows} rows: {cell.images_a_second:,.0f} images/s"
        self._progress.update(self._task, description=escape(text), completed=self._clock() - self._began)


def _names(repository: Path, names: Sequence[str]) -> list[str]:
    try:
        known = list_models(repository)
    except BundleError as error:
        raise StartupError(f"--models: {error}") from error
    except OSError as error:
        raise StartupError(f"--models: {repository} cannot be read ({error.strerror}); mend its rights") from error
    if not known:
        raise StartupError(f"--models: {repository} holds no model: export a run into it, or name another folder")
    if unknown := sorted(set(names) - set(known)):
        raise StartupError(f"--model: there is no {unknown[0]!r} in {repository}; it holds {', '.join(known)}")
    return [name for name in known if not names or name in names]


def _measure_newest(
    config: ServerConfig, name: str, shown: _Shown, plan_model: PlanModel, bench: Bench
) -> tuple[Card, str, Measurements] | None:
    """Measures the newest version that works, which is the one that is served."""
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
            sizes = batch_sizes(batch_rows(card, config))
            measurements = measure_model(
                *(card, plan.layouts, sizes, plan.load, shown.seconds, shown.measured, bench),
                find_variants=plan.find_variants,
            )
        except (BundleError, OSError) as error:
            _log.warning("%s:%d is broken and not measured: %s", name, number, error)
        else:
            return card, plan.device, measurements
    return None


def _tuned(card: Card, device: str, choice: Choice) -> TunedModel:
    precision: Precision = "fp32" if choice.limits.large_rows is None else "bf16"
    layout = choice.layout
    return TunedModel(card.files[ONNX_FILE], device, layout.engines, layout.threads, precision, choice.limits)


def _show(console: Console, name: str, table: Sequence[Measured], choice: Choice) -> None:
    """A table of images a second, the best with a star, and a line that says what was chosen."""
    best = max(cell.images_a_second for cell in table)
    shown = Table(title=f"{escape(name)}: images/s of engines x threads, by rows a batch")
    shown.add_column("rows", justify="right")
    cells = {(cell.layout, cell.callers, cell.rows): cell.images_a_second for cell in table}
    columns = list(dict.fromkeys((cell.layout, cell.callers) for cell in table))
    for layout, callers in columns:
        precision = "" if layout.precision == "fp32" else f"{layout.precision} "
        heading = f"{precision}{layout.engines} x {layout.threads}\n{callers} caller{'s' * (callers > 1)}"
        style = "bold" if layout == choice.layout else None
        shown.add_column(heading, justify="right", no_wrap=True, style=style)
    for rows in sorted({cell.rows for cell in table}):
        rates = [cells.get((layout, callers, rows)) for layout, callers in columns]
        texts = ["" if rate is None else f"{rate:,.0f}{'*' if rate == best else ' '}" for rate in rates]
        shown.add_row(str(rows), *texts)
    console.print(shown)
    console.print(f"{name}: {choice.why}", markup=False, highlight=False, soft_wrap=True)


def _show_next(console: Console, config: ServerConfig, models: dict[str, TunedModel], out: Path) -> None:
    command = ["python", "-m", "server"]
    if config.models != ServerConfig.models:
        command += ["--models", str(config.models)]
    if config.device != ServerConfig.device:
        command += ["--device", config.device]
    command += ["--profile", str(out)]
    console.print(f"Serve so: {shlex.join(command)}", markup=False, highlight=False, soft_wrap=True)
    reduced = [name for name, tuned in models.items() if tuned.precision != "fp32"]
    if reduced:
        text = f"With --precision bf16, large batches of {', '.join(reduced)} are computed faster."
        console.print(text, markup=False, highlight=False, soft_wrap=True)
