"""What a front can carry: requests and bytes per second of a handler that computes nothing, on each front.

    python -m benchmarks.fronts [--sizes 3136,3145728] [--callers 1,4,32,128] [--rounds 5] [--seconds 2] [--out FILE]

Needs h2load (Debian: nghttp2-client). Each front is a process of its own; they are measured in turn, round by round,
and share the machine with the load generator, so read the ratios. 3,136 bytes are a 28x28 image in FP32, 3,145,728 are
64 of 3x64x64.
"""

from __future__ import annotations

import asyncio
import re
import resource
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import click

from benchmarks.peers.wire import OpenInference
from benchmarks.report import report
from server.config import ServerConfig
from server.fronts.base import Call, Unary
from server.fronts.choice import choose_front
from server.memory import keep_freed_memory
from server.rpc.transport import make_server

FRONTS: Final = ("core", "aio")
METHOD: Final = OpenInference.path  # h2load's flags are those of this method
REQUEST: Final = bytes(416)  # a latent of gan28 in a ModelInfer message has about as many
_REQUESTS: Final = re.compile(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded")
_DATA: Final = re.compile(r"\((\d+)\) data")
_TIME: Final = re.compile(r"finished in ([\d.]+)(m?s)")


async def _serve(front: str, size: int) -> None:
    """Serves until stdin ends; prints the port, and then its processor time in seconds."""
    keep_freed_memory()
    answer = bytes(size)

    async def handle(_: bytes, __: Call) -> bytes:
        return answer

    chosen = choose_front("core" if front == "core" else "aio")
    server = make_server(chosen, ServerConfig(), {METHOD: Unary(handle)})
    print(server.add_port("127.0.0.1:0"), flush=True)
    await server.start()
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(used.ru_utime + used.ru_stime, flush=True)
    await server.stop(None)


class Server:
    """A process with one front; `cpu_s` is its processor time so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        self.port = int(process.stdout.readline())

    @property
    def cpu_s(self) -> float:
        """Seconds of processor time since its start."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


@contextmanager
def serving(front: str, size: int) -> Iterator[Server]:
    """A server that answers with `size` bytes, until the end of the block."""
    command = [sys.executable, "-m", "benchmarks.fronts", "--serve", front, "--sizes", str(size)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Server(process)
        finally:
            process.kill()


def load(server: Server, body: Path, callers: int, seconds: int) -> dict[str, float]:
    """Requests per second, GB/s of answers, and microseconds of the server's processor time per request."""
    flags = OpenInference().load_flags(callers)
    command = ["h2load", "-t", "1", "-D", str(seconds), "-d", str(body), *flags]
    before_s = server.cpu_s
    shown = subprocess.run(
        [*command, f"http://127.0.0.1:{server.port}{METHOD}"], capture_output=True, text=True, check=True
    ).stdout
    done, data, took = _REQUESTS.search(shown), _DATA.search(shown), _TIME.search(shown)
    if done is None or data is None or took is None or not int(done[1]):
        raise click.ClickException(f"h2load: no answers: {shown.strip().splitlines()[-1:]}")
    took_s = float(took[1]) / (1000 if took[2] == "ms" else 1)
    answered = int(done[1])
    return {
        "requests/s": answered / took_s,
        "GB/s": int(data[1]) / took_s / 1e9,
        "CPU us": 1e6 * (server.cpu_s - before_s) / answered,
    }


@click.command()
@click.option("--sizes", default="3136,3145728", show_default=True, help="Bytes of an answer.")
@click.option("--callers", default="1,4,32,128", show_default=True, help="Concurrent requests.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--seconds", type=click.IntRange(1), default=2, show_default=True, help="Of each measurement.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON file to write.")
@click.option("--serve", type=click.Choice(FRONTS), hidden=True)
def main(*, sizes: str, callers: str, rounds: int, seconds: int, out: Path | None, serve: str | None) -> None:
    """Measures both fronts with a handler that computes nothing."""
    if serve is not None:
        asyncio.run(_serve(serve, int(sizes)))
        return
    if shutil.which("h2load") is None:
        raise click.ClickException("h2load is missing: apt-get install nghttp2-client")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body"
        body.write_bytes(struct.pack(">BI", 0, len(REQUEST)) + REQUEST)
        for size in map(int, sizes.split(",")):
            with ExitStack() as stack:
                servers = {front: stack.enter_context(serving(front, size)) for front in FRONTS}
                for count in map(int, callers.split(",")):
                    found: dict[str, list[dict[str, float]]] = {front: [] for front in FRONTS}
                    for turn in range(rounds + 1):
                        for front, server in servers.items():
                            measured = load(server, body, count, seconds)
                            found[front] += [measured] if turn else []  # the first warms up
                    rows += [_row(size, count, front, found) for front in FRONTS]
    report(f"fronts without computing, medians of {rounds} rounds of {seconds} s", rows, out)


def _row(size: int, callers: int, front: str, found: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    medians = {key: statistics.median(each[key] for each in found[front]) for key in found[front][0]}
    rates = [each["requests/s"] for each in found[front]]
    other = statistics.median(each["requests/s"] for each in found["aio"])
    spread = f"{min(rates):,.0f}-{max(rates):,.0f}"
    named = {"bytes": size, "callers": callers, "front": front}
    return named | medians | {"lowest-highest": spread, "of aio": medians["requests/s"] / other}


if __name__ == "__main__":
    main()
