"""What a sweep leaves on disk, and how it is found again after a kill.

    sweep.json                            the spec as it was resolved
    study.journal                         which trials are done and how they ended (Optuna's journal)
    runs/<cell>/seed-<seed>/0001-.../     one run folder a trial
    report.html, trials.csv, cells.csv    see results.py

A sweep is worked on by one process at a time. The kernel gives its lock back when that process ends, however it ends;
so whoever holds it may remove what a killed one has left: Optuna's own lock, and a half-written last line.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from ganserve.files import replace_file
from trainer.errors import UserError
from trainer.runs.run_folder import RunFolder
from trainer.sweep.grid import Cell
from trainer.sweep.spec import Spec

try:
    import fcntl
except ImportError:  # Windows: nothing keeps two processes apart there
    fcntl = None  # type: ignore[assignment]

STUDY = "sweep"
Direction = Literal["minimize", "maximize"]
# Where a trial is computed and where its data lie may change while a sweep goes on.
_MAY_DIFFER = ("device", "data_root")


class SweepFolder:
    """The files of one sweep."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spec_path = path / "sweep.json"
        self.journal = path / "study.journal"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder if need be, and keeps other processes out of it.

        Raises:
            UserError: one is at work in it, or the folder cannot be written to.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / ".lock").open("ab")
        except OSError as error:
            raise UserError(f"--out {self.path}: cannot be written to ({error.strerror})") from error
        with file:
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    raise UserError(
                        f"--out {self.path}: another sweep is at work in it; wait for it, or give another folder"
                    ) from error
            yield

    def claim(self, spec: Spec) -> None:
        """Writes the spec into a new sweep folder, or checks that this one holds the same sweep.

        Raises:
            UserError: it is another sweep's.
        """
        content = msgspec.json.format(msgspec.json.encode(spec), indent=2) + b"\n"
        if self.spec_path.is_file() and _trials_of(self.read_spec()) != _trials_of(spec):
            raise UserError(
                f"--out {self.path}: holds another sweep, or this one with other settings; give another folder"
            )
        replace_file(self.spec_path, content)

    def read_spec(self) -> Spec:
        """Reads sweep.json strictly.

        Raises:
            UserError: it is not there, or no spec.
        """
        try:
            return msgspec.json.decode(self.spec_path.read_bytes(), type=Spec)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise UserError(f"{self.path}: not the folder of a sweep ({' '.join(str(error).split())[:200]})") from error

    def repair(self) -> None:
        """Removes what a killed process may have left of its last write; for who holds the lock."""
        for leftover in (*self.path.glob(f"{self.journal.name}.lock*"), *self.path.glob(".*.tmp")):
            leftover.unlink()
        if self.journal.is_file():
            content = self.journal.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            if len(whole) < len(content):
                replace_file(self.journal, whole)

    def study(self, direction: Direction = "minimize") -> optuna.Study:
        """Opens the study of the sweep, or begins it; the direction is of what a trial's value means.

        Raises:
            UserError: the journal is damaged.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what Optuna means to change one day
                storage = JournalStorage(JournalFileBackend(str(self.journal)))
                # Every trial says itself what it is, so the sampler has nothing to choose.
                sampler = optuna.samplers.RandomSampler(seed=0)
                return optuna.create_study(
                    storage=storage, study_name=STUDY, sampler=sampler, direction=direction, load_if_exists=True
                )
        except Exception as error:  # a journal is untrusted, and is replayed without checks
            raise UserError(f"{self.journal}: damaged ({type(error).__name__}); give another --out") from error

    def trial_folder(self, cell: Cell, seed: int) -> Path:
        """Where the run of a trial is made."""
        return self.path / "runs" / cell.folder / f"seed-{seed}"

    def run_of(self, cell: Cell, seed: int) -> RunFolder | None:
        """The run of a trial, if it was begun."""
        folder = self.trial_folder(cell, seed)
        found = sorted(path.parent for path in folder.glob("[0-9]*/config.json")) if folder.is_dir() else []
        return RunFolder.open(found[0]) if found else None


def ended(study: optuna.Study) -> dict[tuple[str, int], optuna.trial.FrozenTrial]:
    """The trials that are not run again, by cell and seed: complete, or pruned, which is how a failed training ends."""
    done = {}
    for trial in study.get_trials(deepcopy=False):
        cell, seed = trial.params.get("cell"), trial.params.get("seed")
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and isinstance(cell, str) and isinstance(seed, int):
            done[cell, seed] = trial
    return done


def _trials_of(spec: Spec) -> tuple[object, ...]:
    """What decides about the trials of a sweep; seeds may be added, and the report may change."""
    base = {name: value for name, value in spec.base.items() if name not in _MAY_DIFFER}
    return base, spec.axes, spec.is_quick
