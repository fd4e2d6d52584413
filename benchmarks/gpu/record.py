"""The results of one stage, written to a file after each measurement."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ganserve.files import replace_file
from ganserve.foreign import first_line

RESTART: Final = 75  # exit code of a stage that wants to go on in a new process

DONE: Final = "done"
FAILED: Final = "failed"
SKIPPED: Final = "skipped"
STOPPED: Final = "stopped"  # in work when the stage was stopped
RUNNING: Final = "running"


class Skip(Exception):  # noqa: N818 - not an error
    """A measurement cannot be made on this machine; the message says why."""


class Record:
    """Makes measurements one after another; one that fails does not stop the others.

    A record that is opened on an existing file goes on where it ended: a measurement in it is not made again, and one
    that was running has failed.

    Args:
        path: the JSON file.
        left_s: returns the seconds left for the stage.
        restarts: after a failed measurement, end the process with the code RESTART, because an error on a GPU can break
            everything after it.
        most: make only the first measurements, at most this many.
    """

    def __init__(
        self, path: Path, left_s: Callable[[], float], *, restarts: bool = False, most: int | None = None
    ) -> None:
        self._path = path
        self._most = most
        self._left_s = left_s
        self._restarts = restarts
        end_running(path, FAILED, "the process ended during this measurement")
        self._results: dict[str, dict[str, Any]] = read_results(path)

    def measure(self, name: str, measurement: Callable[[], Mapping[str, Any]], *, needs_s: float = 0.0) -> None:
        """Calls `measurement` and records what it returns; its key "summary" is one line for the table.

        Args:
            name: unique within the stage.
            measurement: raises `Skip` if this machine cannot make it, and any other exception if it fails.
            needs_s: the time that it takes, about; with less left, it is skipped.
        """
        if name in self._results or self.is_full:
            return
        if self._left_s() < needs_s:
            self._end(name, SKIPPED, {"summary": f"{max(0.0, self._left_s()):.0f} s left, needs about {needs_s:.0f} s"})
            return
        self._results[name] = {"status": RUNNING}
        self._write()
        print(f"== {name}", flush=True)
        began_s = time.monotonic()
        try:
            measured = {"took_s": 0.0} | dict(measurement())
        except Skip as reason:
            self._end(name, SKIPPED, {"summary": str(reason)})
        except Exception as error:  # noqa: BLE001 - whatever fails, the other measurements should be made
            traceback.print_exc()
            text = traceback.format_exc()
            self._end(name, FAILED, {"summary": first_line(error) or type(error).__name__, "traceback": text})
            if self._restarts:
                sys.exit(RESTART)
        else:
            measured["took_s"] = round(time.monotonic() - began_s, 1)
            self._end(name, DONE, measured)

    @property
    def is_full(self) -> bool:
        """Whether no more measurements are to be made."""
        return self._most is not None and len(self._results) >= self._most

    def value(self, name: str, key: str) -> Any:
        """A recorded value; None if there is none."""
        return self._results.get(name, {}).get(key)

    def _end(self, name: str, status: str, result: Mapping[str, Any]) -> None:
        self._results[name] = {"status": status, **result}
        self._write()
        print(f"   {status}: {result.get('summary', '')}", flush=True)

    def _write(self) -> None:
        _write(self._path, self._results)


def read_results(path: Path) -> dict[str, dict[str, Any]]:
    """The measurements in the file of a record, by name; none if the file does not exist."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return {}
    results: dict[str, dict[str, Any]] = json.loads(text)
    return results


def end_running(path: Path, status: str, summary: str) -> None:
    """Gives the measurement that is running in the file of a record, if any, another status; its process has ended."""
    results = read_results(path)
    for result in results.values():
        if result["status"] == RUNNING:
            result |= {"status": status, "summary": summary}
            _write(path, results)


def _write(path: Path, results: Mapping[str, Any]) -> None:
    replace_file(path, json.dumps(results, indent=1, default=str).encode() + b"\n")
