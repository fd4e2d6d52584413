"""`make demo`: trains, exports, serves and fetches images, printing each command. All output goes to demo/."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

DEMO = Path("demo")
RUNS, MODELS = DEMO / "runs", DEMO / "models"
GRID = DEMO / "grid.png"
SERVER_STOP_TIMEOUT_S = 30


def main() -> int:
    """Runs the demo; returns the exit code of the first command that failed, or 0."""
    started = time.monotonic()
    DEMO.mkdir(exist_ok=True)
    try:
        run = Path(follow("-m", "trainer", "--model", "dcgan", "--out", str(RUNS)))
        follow("-m", "exporter", str(run), "--models", str(MODELS))
        fetch_grid()
    except subprocess.CalledProcessError as error:
        print(f"demo: the command above failed with exit code {error.returncode}", file=sys.stderr)
        return int(error.returncode) or 1
    print(f"\nDone in {time.monotonic() - started:.0f} s. Output:")
    print(f"  the served grid:            {GRID}")
    print(f"  the loss curve:             {run / 'figures' / 'loss_curve.png'}")
    print(f"  the discriminator's scores: {run / 'figures' / 'score_curve.png'}")
    print(f"  real next to fake images:   {run / 'figures' / 'real_beside_fake.png'}")
    print(f"  single latent dimensions:   {run / 'figures' / 'traversal.png'}")
    print(f"  training progress:          {run / 'figures' / 'progress.gif'}")
    print("\nTo explore the model in the browser, run these two commands in two shells, with .venv activated:")
    print(f"  python -m server --models {MODELS}")
    print("  ganclient explore")
    return 0


def follow(*arguments: str) -> str:
    """Runs a Python command with its output visible; returns its last line."""
    show(*arguments)
    if sys.stdout.isatty():  # a pipe would hide the progress bars, so find the run folder instead
        subprocess.run([sys.executable, *arguments], check=True)
        return str(max(RUNS.iterdir()))
    last = ""
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, arguments)
    return last


def fetch_grid() -> None:
    """Starts a server on free ports, fetches a grid from it, and stops it with SIGTERM."""
    arguments = [
        "-m",
        "server",
        "--models",
        str(MODELS),
        "--address",
        "127.0.0.1:0",
        "--metrics-address",
        "127.0.0.1:0",
    ]
    show(*arguments)
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True) as server:
        try:
            address = wait_until_ready(server)
            client = ["-m", "client", "grid", "--model", "dcgan", "--n", "64", "--seed", "0", "--out", str(GRID)]
            follow(*client, "--address", address)
        finally:
            server.send_signal(signal.SIGTERM)
            code = server.wait(SERVER_STOP_TIMEOUT_S)
    print(f"the server drained and exited with {code}")
    if code:
        raise subprocess.CalledProcessError(code, arguments)


def wait_until_ready(server: subprocess.Popen[str]) -> str:
    """Prints the server's output until it is ready; returns its address."""
    assert server.stdout is not None
    for line in server.stdout:
        print(line, end="", flush=True)
        if line.startswith("ready:"):
            return line.partition(" on ")[2].partition(",")[0]
    raise subprocess.CalledProcessError(server.wait() or 1, server.args)


def show(*arguments: str) -> None:
    """Prints a command as a user would type it."""
    print(f"\n$ python {shlex.join(arguments)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
