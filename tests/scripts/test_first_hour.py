"""The walk through the first hour: it reaches the browser, and says which command failed."""

from __future__ import annotations

import re
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from scripts.first_hour import NotReachedError, Walk, best_swd, check_page, main
from trainer.presets import PRESETS
from trainer.runs.run_folder import RunFolder

STEPS = [
    "look at the data",
    "train dcgan",
    "train wgan-gp",
    "two side by side",
    "export",
    "serve",
    "fetch a grid",
    "fetch a grid",
    "open in the browser",
]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_first_hour_ends_in_the_browser(tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="NO GRADIO: the first hour was not walked")
    done = subprocess.run(
        [sys.executable, "-m", "scripts.first_hour", str(tmp_path / "hour"), "--quick"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    table = done.stdout.partition("\nstep ")[2].splitlines()[1 : 1 + len(STEPS)]
    assert [re.split(r" {2,}", line)[0] for line in table] == STEPS
    assert all(len(line) <= 80 for line in table)
    assert {"report.html", "my-drawings-dcgan.png", "my-drawings-wgan-gp.png"} <= {
        path.name for path in (tmp_path / "hour").iterdir()
    }


def test_a_failed_command_is_named_with_its_exit_code(tmp_path: Path) -> None:
    with pytest.raises(NotReachedError, match=r"^exit code 3: python -c 'raise SystemExit\(3\)'$"):
        Walk(tmp_path).run("-c", "raise SystemExit(3)")


def test_a_command_runs_in_the_folder_and_its_last_line_is_returned(tmp_path: Path) -> None:
    program = "import os; print('first'); print(os.getcwd()); print()"
    assert Walk(tmp_path).run("-c", program) == str(tmp_path.resolve())


def test_a_program_that_serves_is_stopped_at_the_end(tmp_path: Path) -> None:
    program = (
        "import pathlib, signal, sys\n"
        "def stop(*_): pathlib.Path('stopped').touch(); sys.exit()\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "print('loading'); print('ready: on 1', flush=True)\n"
        "signal.pause()"
    )
    with Walk(tmp_path).serving("ready:", "-c", program) as ready:
        assert ready == "ready: on 1"
        assert not (tmp_path / "stopped").exists()
    assert (tmp_path / "stopped").exists()


def test_a_program_that_ends_before_it_serves_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(NotReachedError, match=r"^ended before it was ready: python -c 'print\(1\)'$"),
        Walk(tmp_path).serving("ready:", "-c", "print(1)"),
    ):
        pass


def test_the_score_of_a_run_is_that_of_its_best_evaluation(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, PRESETS["dcgan", "dcgan-digits"].config)
    rows = [("floor", 20.0), ("evaluation", 90.5), ("evaluation", 70.25), ("evaluation", 80.0)]
    run.metrics.append({"step": 1, "kind": kind, "sliced_wasserstein_distance": swd} for kind, swd in rows)
    assert best_swd(run.path) == 70.25


@pytest.mark.parametrize("is_explorer", [True, False])
def test_only_the_explorer_counts_as_the_page(is_explorer: bool) -> None:
    title = "ganserve explorer" if is_explorer else "Welcome to nginx!"

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"<title>{title}</title>".encode())

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        Thread(target=server.handle_request, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        if is_explorer:
            check_page(address)
        else:
            with pytest.raises(NotReachedError, match="not with the explorer"):
                check_page(address)


def test_a_folder_with_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").touch()
    monkeypatch.setattr(sys, "argv", ["first_hour", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "not empty; name another folder" in capsys.readouterr().err
