"""The files of a sweep, and how a later command continues it.

    sweep.json                            the resolved spec
    trials.jsonl                          one line per trial that has ended: cell, seed, outcome
    runs/<cell>/seed-<seed>/0001-.../     one run folder per trial
    report.html, trials.csv, cells.csv    see results.py

One process works on a sweep at a time. It holds a lock that the kernel releases when the process ends, however it ends.
Every file is replaced by one rename, so a kill leaves complete files. A trial that was killed before its line was
written resumes from its run folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from ganserve.files import replace_file
from trainer.data.datasets import NAMES
from trainer.errors import UserError
from trainer.runs.folder_lock import FolderLock
from trainer.runs.run_folder import RunFolder
from trainer.sweep.grid import Cell
from trainer.sweep.spec import Spec

Outcome = Literal["finished", "diverged", "given up"]
# Settings that may change while a sweep runs: its device and the location of its data.
_MAY_DIFFER = ("device", "data_root")


class Ending(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a trial ended. It does not run again."""

    cell: str
    seed: int
    outcome: Outcome
    text: str = ""  # why it failed


class SweepFolder:
    """The files of one sweep."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spec_path = path / "sweep.json"
        self.trials_path = path / "trials.jsonl"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Creates the folder if it is missing, and keeps other processes out of it.

        Raises:
            UserError: another process works in the folder, or the folder is not writable.
        """
        busy = UserError(f"--out {self.path}: another sweep is running in it; wait for it, or give another folder")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with ExitStack() as stack:
                stack.enter_context(FolderLock(self.path).held(busy))
                for leftover in self.path.glob(".*.tmp"):  # of a killed process
                    leftover.unlink()
                kept = stack.pop_all()
        except OSError as error:
            raise UserError(f"--out {self.path}: not writable ({error.strerror})") from error
        with kept:
            yield

    def claim(self, spec: Spec) -> None:
        """Writes the spec into a new sweep folder, or checks that this folder holds the same sweep.

        Raises:
            UserError: the folder holds another sweep.
        """
        content = msgspec.json.format(msgspec.json.encode(spec), indent=2) + b"\n"
        if self.spec_path.is_file() and _trials_of(self.read_spec()) != _trials_of(spec):
            raise UserError(f"--out {self.path}: holds another sweep, or other settings; give another folder")
        replace_file(self.spec_path, content)

    def read_spec(self) -> Spec:
        """Reads sweep.json strictly.

        Raises:
            UserError: the file is missing or damaged.
        """
        try:
            return msgspec.json.decode(self.spec_path.read_bytes(), type=Spec)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise UserError(f"{self.path}: not a sweep folder ({' '.join(str(error).split())[:200]})") from error

    def endings(self) -> dict[tuple[str, int], Ending]:
        """The trials that have ended, by cell name and seed.

        Raises:
            UserError: trials.jsonl is damaged.
        """
        if not self.trials_path.is_file():
            return {}
        try:
            lines = self.trials_path.read_bytes().splitlines()
            found = [msgspec.json.decode(line, type=Ending) for line in lines]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"{self.trials_path}: damaged ({reason}); delete it: the sweep continues from its run folders"
            ) from error
        return {(each.cell, each.seed): each for each in found}

    def record(self, ending: Ending) -> None:
        """Adds a line to trials.jsonl."""
        endings = [*self.endings().values(), ending]
        replace_file(self.trials_path, b"".join(msgspec.json.encode(each) + b"\n" for each in endings))

    def trial_folder(self, cell: Cell, seed: int) -> Path:
        """The folder that holds the run of a trial."""
        return self.path / "runs" / cell.folder / f"seed-{seed}"

    def run_of(self, cell: Cell, seed: int) -> RunFolder | None:
        """The run of a trial; None if the trial has not started."""
        folder = self.trial_folder(cell, seed)
        found = sorted(path.parent for path in folder.glob("[0-9]*/config.json")) if folder.is_dir() else []
        return RunFolder.open(found[0]) if found else None


def _trials_of(spec: Spec) -> tuple[object, ...]:
    """The part of a spec that decides its trials. Seeds may be added, and the report may change."""
    base = {name: value for name, value in spec.base.items() if name not in _MAY_DIFFER}
    if base.get("dataset", NAMES[0]) not in NAMES:
        base["dataset"] = "own pictures"  # which may move; trials.py compares their pixels
    return base, spec.axes, spec.is_quick
