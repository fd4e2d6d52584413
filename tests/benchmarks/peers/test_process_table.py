from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks.peers.process_table import ServerProcess, Stat, busy_s, family, parse_smaps_rollup, parse_stat

# A parent that waits for ever, and a child in its own session that ignores SIGTERM.
PARENT_AND_STUBBORN_CHILD = """
import signal, subprocess, sys, time
child = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
process = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE, start_new_session=True)
process.stdout.readline()
print(process.pid, flush=True)
time.sleep(600)
"""


def stat(parent: int, session: int) -> Stat:
    return Stat("S", parent, session, 0.0, 1)


def test_a_process_name_may_look_like_other_fields() -> None:
    line = "17 (a) S 1) (b) R 5 17 9 0 -1 0 0 0 0 0 " + f"{os.sysconf('SC_CLK_TCK')} 0 0 0 20 0 1 0 4242 0"
    assert parse_stat(line) == Stat("R", parent=5, session=9, cpu_s=1.0, began=4242)


def test_memory_is_in_mib() -> None:
    text = "55d0-7ffc ---p 00000000 00:00 0 [rollup]\nRss:   2048 kB\nPss:  1024 kB\nPss_Anon:  512 kB\n"
    assert parse_smaps_rollup(text) == (2.0, 1.0)


def test_an_empty_rollup_has_no_memory() -> None:
    assert parse_smaps_rollup("") == (0.0, 0.0)


def test_a_family_is_a_session_the_tagged_processes_and_their_children() -> None:
    stats = {
        1: stat(0, 1),
        10: stat(1, 10),
        11: stat(10, 10),
        12: stat(11, 12),  # in another session, but started by 11
        13: stat(1, 10),  # orphaned, still in the session
        20: stat(1, 20),  # tagged
        21: stat(20, 20),
        30: stat(1, 30),
    }
    assert family(stats, 10, tagged=[20]) == {10, 11, 12, 13, 20, 21}


def test_the_family_of_an_ended_process_is_the_rest_of_its_session() -> None:
    assert family({1: stat(0, 1), 13: stat(1, 10)}, 10) == {13}


def test_the_machine_has_used_cpu_time() -> None:
    assert busy_s() > 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_all_processes_of_a_server_are_stopped_even_if_one_ignores_sigterm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.peers.process_table._STOP_TIMEOUT_S", 0.2)
    with ServerProcess([sys.executable, "-c", PARENT_AND_STUBBORN_CHILD], {}, tmp_path) as server:
        while not (printed := server.log.read_text()).endswith("\n"):
            assert not server.ended()
        child = int(printed)
        assert server.count() == 2
        assert server.memory().rss_mib >= server.memory().pss_mib > 1
        assert server.cpu_s() >= 0
        os.kill(child, 0)
    assert server.ended()
    with pytest.raises(ProcessLookupError):
        _check_runs(child)


def test_a_server_does_not_inherit_what_would_change_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    command = [sys.executable, "-c", "import os; print(os.environ.get('OMP_NUM_THREADS'), os.environ['MORE'])"]
    with ServerProcess(command, {"MORE": "yes"}, tmp_path) as server:
        while not server.ended():
            os.sched_yield()
    assert server.log.read_text() == "None yes\n"


def _check_runs(pid: int) -> None:
    """Raises ProcessLookupError unless the process runs; a zombie does not run."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError as error:
        raise ProcessLookupError(pid) from error
    if parse_stat(text).state == "Z":
        raise ProcessLookupError(pid)
