"""Walks through the first hour of a user with own pictures, and prints the minutes to each success.

    python -m scripts.first_hour [FOLDER] [--quick]       # `make first-hour`; FOLDER must be new or empty

Draws 300 faces into an untidy folder. Then runs the commands of docs/your-own-pictures.md and docs/compare-models.md as
a user does: look at the data, train two models, compare them, export, serve, fetch a grid, open the explorer. It exits
with code 1 after a command that fails, or if the pictures of a model cannot be recognised by its scores.
"""

from __future__ import annotations

import argparse
import resource
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from PIL import Image

from scripts.drawings import draw_messy_folder
from trainer.runs.run_folder import RunFolder

FOLDER: Final = Path("first-hour")
PICTURES: Final = "my drawings"
MODELS: Final = ("dcgan", "wgan-gp")
QUICK: Final = ("--steps", "500")
SWD: Final = "sliced_wasserstein_distance"
# Largest SWD of the best checkpoint, by --quick. The drawings themselves have 26. Measured with dcgan: blurred heads at
# 81 (step 250), faces with eyes and mouths at 57 (500), clear ones at 34 (1,500); with wgan-gp 50 and 24.
MOST_SWD: Final = {False: 65.0, True: 95.0}
STOP_TIMEOUT_S: Final = 60
PAGE_TIMEOUT_S: Final = 30
PAGE_TITLE: Final = "ganserve explorer"


class NotReachedError(Exception):
    """A command failed, or its result is not what a user expects."""


@dataclass(frozen=True)
class Success:
    """One step that a user has done."""

    step: str
    minutes: float  # since the start
    cpu_minutes: float  # of all commands that have ended; does not depend on what else the machine does
    made: str


@dataclass
class Walk:
    """The successes so far."""

    folder: Path  # the working folder of all commands
    began_s: float = field(default_factory=time.monotonic)
    rows: list[Success] = field(default_factory=list)

    def reached(self, step: str, made: str) -> None:
        """Notes a success."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = Success(step, (time.monotonic() - self.began_s) / 60, (used.ru_utime + used.ru_stime) / 60, made)
        self.rows.append(done)
        print(f"== {done.minutes:.1f} min: {step}: {made}", flush=True)

    def run(self, *arguments: str) -> str:
        """Runs a Python command with its output visible; returns its last line.

        Raises:
            NotReachedError: it fails.
        """
        with self._started(*arguments) as process:
            assert process.stdout is not None
            last = ""
            for line in process.stdout:
                print(line, end="", flush=True)
                last = line.strip() or last
            if process.wait():
                raise NotReachedError(f"exit code {process.returncode}: {command(*arguments)}")
        return last

    @contextmanager
    def serving(self, ready: str, *arguments: str) -> Iterator[str]:
        """A program that serves until the end of the block; yields its line that begins with `ready`.

        Raises:
            NotReachedError: it ends before it is ready, or does not end after SIGTERM.
        """
        with self._started(*arguments) as process:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                if line.startswith(ready):
                    yield line.strip()
                    break
            else:
                raise NotReachedError(f"ended before it was ready: {command(*arguments)}")
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                raise NotReachedError(f"still runs {STOP_TIMEOUT_S} s after SIGTERM: {command(*arguments)}") from None

    def table(self) -> str:
        """All successes, for 80 columns."""
        lines = [f"{'step':<20}{'minutes':>7}{'CPU':>6}  made"]
        lines += [f"{row.step:<20}{row.minutes:>7.1f}{row.cpu_minutes:>6.1f}  {row.made}" for row in self.rows]
        return "\n".join(lines)

    @contextmanager
    def _started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        print(f"\n$ {command(*arguments)}", flush=True)
        with subprocess.Popen(
            [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.folder
        ) as process:
            try:
                yield process
            finally:
                process.kill()  # only after an error here: programs have ended by themselves


def command(*arguments: str) -> str:
    """A command as a user types it."""
    return shlex.join(["python", *arguments])


def walk(folder: Path, *, is_quick: bool) -> Walk:
    """Does everything in `folder`.

    Raises:
        NotReachedError: a step fails.
    """
    draw_messy_folder(folder / PICTURES)
    done = Walk(folder)
    dataset = f"folder:{PICTURES}"
    done.run("-m", "trainer", "--model", MODELS[0], "--dataset", dataset, "--dry-run")
    done.reached("look at the data", "the plan of the run")
    runs = []
    for model in MODELS:
        flags = QUICK if is_quick else ()
        runs.append(done.run("-m", "trainer", "--model", model, "--dataset", dataset, *flags))
        swd = best_swd(folder / runs[-1])
        if swd > MOST_SWD[is_quick]:
            raise NotReachedError(f"{runs[-1]}: SWD {swd:.0f}, above {MOST_SWD[is_quick]:.0f}: not recognisable")
        done.reached(f"train {model}", f"{Path(runs[-1]).name}, SWD {swd:.0f}")
    done.run("-m", "trainer.report", *runs, "--out", "report.html")
    done.reached("two side by side", "report.html")
    served = [Path(done.run("-m", "exporter", run)) for run in runs]
    done.reached("export", " and ".join(bundle.parent.name for bundle in served))
    free = ("--address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0")
    with done.serving("ready:", "-m", "server", *free) as ready:
        address = ready.partition(" on ")[2].partition(",")[0]
        done.reached("serve", f"both models at {address}")
        for bundle in served:
            name = bundle.parent.name
            grid = f"{name}.png"
            chosen = ("--model", name, "--n", "64", "--seed", "7", "--out", grid)
            done.run("-m", "client", "grid", *chosen, "--address", address)
            with Image.open(folder / grid) as picture:
                width, height = picture.size
            done.reached("fetch a grid", f"{grid}, {width}x{height}")
        explore = ("-m", "client", "explore", "--port", "0", "--dataset", PICTURES, "--address", address)
        with done.serving("exploring", *explore) as exploring:
            page = exploring.partition(" at ")[2].partition(" ")[0]
            check_page(page)
            done.reached("open in the browser", page)
    return done


def best_swd(run: Path) -> float:
    """The smallest SWD among the evaluations of a run: that of the checkpoint which is exported."""
    rows = RunFolder.open(run).metrics.read()
    return min(float(row[SWD]) for row in rows if row["kind"] == "evaluation")


def check_page(address: str) -> None:
    """Fetches the explorer's page.

    Raises:
        NotReachedError: it is not the explorer's.
    """
    with urllib.request.urlopen(address, timeout=PAGE_TIMEOUT_S) as answer:  # noqa: S310  # http, of our own program
        text = answer.read().decode()
    if PAGE_TITLE not in text:
        raise NotReachedError(f"{address} answers, but not with the explorer")


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Walk through the first hour with own pictures.")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help="new or empty; default: %(default)s")
    parser.add_argument("--quick", action="store_true", help=f"train with {' '.join(QUICK)}, for tests")
    given = parser.parse_args()
    folder: Path = given.folder
    if folder.exists() and any(folder.iterdir()):
        parser.error(f"{folder}: not empty; name another folder, or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        done = walk(folder, is_quick=given.quick)
    except NotReachedError as error:
        print(f"first hour: {error}", file=sys.stderr)
        return 1
    print(f"\n{done.table()}\n\nMinutes since the start, and minutes of processor time. Everything is in {folder}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
