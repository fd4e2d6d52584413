"""Measures everything that needs a GPU, unattended and in less than 9 minutes.

    python -m benchmarks.gpu_day [--stages works,training] [--data data] [--out gpu-day] [--dry-run]

Each stage is a process with a time limit. The results are in the output folder at any moment, so a stop loses only the
measurement in work: day.json has all measurements, STAGE.zip the log and the pictures of a stage that has ended, and
table.txt what is printed at the end. docs/gpu-day.md describes the day.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from benchmarks.gpu.__main__ import RECORD_FILE
from benchmarks.gpu.record import DONE, FAILED, RESTART, SKIPPED, STOPPED, end_running, read_results
from benchmarks.gpu.stages import STAGES
from benchmarks.report import machine
from ganserve.files import replace_file
from server.engines.base import cuda_devices

COMPLETE: Final = "complete"  # the state of a stage that has reached its end

_MAX_RESTARTS: Final = 4
_SHORTEST_S: Final = 5.0
_POLL_S: Final = 0.5
_GRACE_S: Final = 3.0
_USER_ERROR: Final = 2
_DRY_PATIENCE: Final = 6  # a dry run has as much more time: nobody waits for its GPU, and its machine may be busy


class Day:
    """The stages, and what is known of them in the output folder.

    Args:
        out: the output folder.
        work: for runs and models, which stay there.
        data: the folder of the data sets.
        is_dry: whether to run on a CPU.
        most: make only the first measurements of each stage, at most this many.
    """

    def __init__(self, out: Path, work: Path, data: Path, *, is_dry: bool, most: int | None = None) -> None:
        self._out, self._work, self._data, self._is_dry, self._most = out, work, data, is_dry, most
        self._stages: dict[str, dict[str, Any]] = {}
        self._about = {"when": time.strftime("%Y-%m-%d %H:%M"), "dry_run": is_dry, "machine": machine()}

    def run(self, name: str, limit_s: float) -> None:
        """Runs a stage for at most `limit_s` seconds."""
        began_s = time.monotonic()
        work = self._work / name
        work.mkdir(parents=True, exist_ok=True)
        log = work / f"{name}.log"
        ends_s, restarts_left = began_s + limit_s, _MAX_RESTARTS
        if limit_s < _SHORTEST_S:
            self._note(name, began_s, f"not begun: {max(0.0, limit_s):.0f} s left")
            return
        while (left_s := ends_s - time.monotonic()) > 0:
            command = [sys.executable, "-u", "-m", "benchmarks.gpu", name, "--limit-s", f"{left_s:.1f}"]
            command += ["--work", str(work), "--data", str(self._data)]
            command += ["--measurements", str(self._most)] if self._most else []
            command += ["--dry-run"] if self._is_dry else []
            command += ["--restarts"] if restarts_left else []
            try:
                code = self._follow(name, command, log, began_s, ends_s)
            except BaseException:  # as after Ctrl-C: the results must not look as if the stage were running
                self._finish(name, began_s, "stopped", STOPPED)
                raise
            restarts_left -= 1
            if code is None:
                break
            if code == 0:
                self._finish(name, began_s, COMPLETE, FAILED)
                return
            if restarts_left < 0 or (code != RESTART and code > 0):  # below 0: ended by a signal, as after a crash
                self._finish(name, began_s, f"exit code {code}: {_last_line(log)}", FAILED)
                return
        self._finish(name, began_s, f"stopped at its limit of {limit_s:.0f} s", STOPPED)

    def _finish(self, name: str, began_s: float, state: str, cut_off: str) -> None:
        """Notes how a stage has ended, with the status `cut_off` for the measurement that was running, if any."""
        work = self._work / name
        end_running(work / RECORD_FILE, cut_off, f"{state}, during this measurement")
        self._note(name, began_s, state)
        self._pack(name, work)

    def _follow(self, name: str, command: Sequence[str], log: Path, began_s: float, ends_s: float) -> int | None:
        """Runs a command until it ends, copying its results; returns its exit code, or None at the limit."""
        with log.open("ab") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
            try:
                while True:
                    try:
                        return process.wait(_POLL_S)
                    except subprocess.TimeoutExpired:
                        self._note(name, began_s, "running")
                        if time.monotonic() > ends_s:
                            return None
            finally:
                _end_group(process)

    def _note(self, name: str, began_s: float, state: str) -> None:
        record = self._work / name / RECORD_FILE
        took_s = round(time.monotonic() - began_s, 1)
        self._stages[name] = {"state": state, "took_s": took_s, "measurements": read_results(record)}
        document = self._about | {"stages": self._stages}
        replace_file(self._out / "day.json", json.dumps(document, indent=1).encode() + b"\n")

    def _pack(self, name: str, work: Path) -> None:
        with zipfile.ZipFile(self._out / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            files = [*work.glob("*.log"), work / RECORD_FILE, *sorted((work / "keep").rglob("*"))]
            for file in files:
                if file.is_file():
                    archive.write(file, file.relative_to(work))

    def table(self) -> Table:
        """All measurements, a line each."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("stage", "measurement", "s", "result"):
            table.add_column(heading, justify="right" if heading == "s" else "left")
        for name, stage in self._stages.items():
            table.add_row(name, "", f"{stage['took_s']:.0f}", stage["state"])
            for measurement, result in stage["measurements"].items():
                mark = "" if result["status"] == DONE else f"{result['status'].upper()} "
                took_s = result.get("took_s")
                summary = mark + str(result.get("summary", ""))
                table.add_row("", measurement, "" if took_s is None else f"{took_s:.0f}", summary)
        return table

    def count(self, status: str) -> int:
        """The number of measurements with a status."""
        results = [result for stage in self._stages.values() for result in stage["measurements"].values()]
        return sum(result["status"] == status for result in results)

    @property
    def incomplete(self) -> list[str]:
        """The stages that ended with an error, were stopped, or had no time left to begin."""
        return [name for name, stage in self._stages.items() if stage["state"] != COMPLETE]


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends a stage and everything that it has started."""
    for number, wait_s in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _GRACE_S)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        if process.poll() is None:
            try:
                process.wait(wait_s)
            except subprocess.TimeoutExpired:
                continue


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _stages(_: click.Context, __: click.Parameter, text: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    unknown = [name for name in names if name not in STAGES]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r}: choose from {', '.join(STAGES)}")
    return names


def _default_out() -> Path:
    return Path(os.environ.get("OUT") or "gpu-day")


def _terminate(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)  # leaves every context, so that no stage keeps running


@click.command(context_settings={"show_default": True})
@click.option("--stages", default=",".join(STAGES), callback=_stages, help="Stages to run, in this order.")
@click.option("--data", type=click.Path(path_type=Path), default=Path("data"), help="Folder of the data sets.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=_default_out, show_default="$OUT, or gpu-day"
)
@click.option("--work", type=click.Path(path_type=Path, file_okay=False), help="For runs.  [default: a temporary one]")
@click.option("--minutes", type=click.FloatRange(0.1, 60), default=8.8, help="Time for all stages.")
@click.option(
    "--measurements", "most", type=click.IntRange(1), help="Make only the first N of each stage.", metavar="N"
)
@click.option("--dry-run", "is_dry", is_flag=True, help="On a CPU, as small as possible, to test the program.")
def main(
    stages: list[str], data: Path, out: Path, work: Path | None, minutes: float, most: int | None, *, is_dry: bool
) -> None:
    """Makes all measurements that need a GPU. Exits with 1 if one failed, or if a stage is not complete."""
    if not is_dry and not cuda_devices():
        click.echo("gpu_day: the NVIDIA driver reports no device; on a CPU, give --dry-run", err=True)
        sys.exit(_USER_ERROR)
    signal.signal(signal.SIGTERM, _terminate)
    patience = _DRY_PATIENCE if is_dry else 1
    ends_s = time.monotonic() + 60 * minutes * patience
    out.mkdir(parents=True, exist_ok=True)
    day = Day(out, work or Path(tempfile.mkdtemp(prefix="gpu-day-")), data, is_dry=is_dry, most=most)
    console = Console(width=150, highlight=False, emoji=False)
    try:
        for index, name in enumerate(stages):
            console.print(f"{name}: {STAGES[name].summary}")
            left_s = ends_s - time.monotonic()
            limit_s = STAGES[name].limit_s * patience
            if STAGES[name].takes_the_rest:
                later_s = patience * sum(STAGES[later].limit_s for later in stages[index + 1 :])
                limit_s = max(limit_s, left_s - later_s)
            day.run(name, min(limit_s, left_s))
    finally:
        table = day.table()
        console.print(table)
        with (out / "table.txt").open("w") as file:
            Console(file=file, width=150).print(table)
    counts = ", ".join(f"{day.count(status)} {status}" for status in (DONE, SKIPPED, FAILED, STOPPED))
    console.print(f"{counts}; written to {out}")
    if day.incomplete:
        console.print(f"not complete: {', '.join(day.incomplete)}")
    sys.exit(1 if day.incomplete or day.count(FAILED) else 0)


if __name__ == "__main__":
    main()
