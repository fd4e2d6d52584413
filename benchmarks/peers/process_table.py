"""The processes of a server: finds, measures and stops them. Reads /proc, so Linux only."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")
_TAG = "GANSERVE_PEER"
_POLL_S = 0.05
_STOP_TIMEOUT_S = 10.0
_KILL_TIMEOUT_S = 5.0
# Variables that would change how a server runs.
_NOT_INHERITED = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "LD_LIBRARY_PATH"}


class Stat(NamedTuple):
    """Fields of /proc/PID/stat."""

    state: str
    parent: int
    session: int
    cpu_s: float
    began: int  # in ticks since boot; with the id, it identifies a process


class Memory(NamedTuple):
    """Memory of several processes together, in MiB; `pss` counts shared pages once."""

    rss_mib: float
    pss_mib: float


def parse_stat(text: str) -> Stat:
    """Reads a line of /proc/PID/stat; the process name may contain any character."""
    fields = text[text.rindex(")") + 2 :].split()
    cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return Stat(fields[0], parent=int(fields[1]), session=int(fields[3]), cpu_s=cpu_s, began=int(fields[19]))


def parse_smaps_rollup(text: str) -> Memory:
    """Reads /proc/PID/smaps_rollup."""
    sizes = {name: int(kib) / 1024 for name, kib in re.findall(r"^(Rss|Pss):\s+([0-9]+) kB$", text, re.MULTILINE)}
    return Memory(sizes.get("Rss", 0.0), sizes.get("Pss", 0.0))


def family(stats: Mapping[int, Stat], root: int, tagged: Iterable[int] = ()) -> set[int]:
    """The processes of `root`'s session, the tagged ones, and all that these started."""
    members = {pid for pid, stat in stats.items() if root in {pid, stat.session}} | set(tagged)
    found = members
    while found:
        found = {pid for pid, stat in stats.items() if stat.parent in found} - members
        members |= found
    return members & stats.keys()


def busy_s() -> float:
    """CPU time of all cores of this machine since boot."""
    user, nice, system, _idle, _waiting, *rest = map(int, (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + sum(rest)) / _TICKS_PER_S


class ServerProcess:
    """A context in which a server runs; at its end, the server and all processes that it started are stopped.

    Args:
        command: the program and its arguments.
        environment: variables in addition to the inherited ones.
        folder: its working and temporary folder, which also gets `log`.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self._tag = uuid.uuid4().hex
        self.log = folder / "server.log"
        inherited = {key: value for key, value in os.environ.items() if key not in _NOT_INHERITED}
        self.began = time.monotonic()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env=inherited | {"TMPDIR": str(folder), _TAG: self._tag} | dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The id of the started program."""
        return self._process.pid

    def ended(self) -> bool:
        """Whether the started program has ended."""
        return self._process.poll() is not None

    def cpu_s(self) -> float:
        """CPU time of the current processes, since each began."""
        return sum(stat.cpu_s for stat in self._members().values())

    def memory(self) -> Memory:
        """Memory of the current processes."""
        each = [parse_smaps_rollup(_read(pid, "smaps_rollup").decode()) for pid in self._members()]
        return Memory(sum(memory.rss_mib for memory in each), sum(memory.pss_mib for memory in each))

    def count(self) -> int:
        """The number of current processes."""
        return len(self._members())

    def stop(self) -> None:
        """Terminates the program, and kills the processes that are left after a timeout."""
        known = self._members()  # a grandchild cannot be found once its parent has ended
        if not self.ended():
            self._process.terminate()
        for pid in self._wait(known, _STOP_TIMEOUT_S):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._wait(known, _KILL_TIMEOUT_S)
        self._process.wait()

    def _members(self) -> dict[int, Stat]:
        alive = {pid: stat for pid, stat in _read_stats().items() if stat.state != "Z"}
        tag = f"{_TAG}={self._tag}".encode()
        members = family(alive, self._process.pid, [pid for pid in alive if tag in _read(pid, "environ")])
        return {pid: alive[pid] for pid in members}

    def _wait(self, known: Mapping[int, Stat], timeout_s: float) -> set[int]:
        """Waits until all have ended; returns those that have not ended in time."""
        deadline = time.monotonic() + timeout_s
        while (left := self._left(known)) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return left

    def _left(self, known: Mapping[int, Stat]) -> set[int]:
        self._process.poll()  # otherwise it stays a zombie
        now = _read_stats()
        same = {pid for pid, stat in known.items() if pid in now and now[pid].began == stat.began}
        return {pid for pid in same if now[pid].state != "Z"} | self._members().keys()


def _read_stats() -> dict[int, Stat]:
    pids = (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal())
    return {pid: stat for pid in pids if (stat := _read_stats_of(pid)) is not None}


def _read_stats_of(pid: int) -> Stat | None:
    text = _read(pid, "stat").decode(errors="replace")
    return parse_stat(text) if text else None


def _read(pid: int, name: str) -> bytes:
    """A file of a process; empty if it has ended or is not readable."""
    try:
        return (_PROC / str(pid) / name).read_bytes()
    except OSError:
        return b""
