"""Measures a server once: starts it, checks its images, runs every cell, checks again, and stops it."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers import closed_loop, open_loop
from benchmarks.peers.catalogue import Launch, Peer
from benchmarks.peers.closed_loop import Cell, Load, LoadError
from benchmarks.peers.open_loop import Stream
from benchmarks.peers.process_table import Memory, ServerProcess, busy_s
from benchmarks.peers.served_graph import ServedGraph
from benchmarks.peers.wire import OpenInference, WrongAnswerError, check_images

_START_TIMEOUT_S = 90.0
_POLL_S = 0.01
_CONNECT_TIMEOUT_S = 0.5
_IDLE_TIMEOUT_S = 20.0
_IDLE_CHECK_S = 0.25
_IDLE_CHECKS = 2
_IDLE_CORES = 0.15
_LOG_LINES = 5


class VisitError(Exception):
    """A server did not start or gave a wrong answer; the message has the details and quotes its log."""


@dataclass
class Visit:
    """The measurements of a server from one start to its stop."""

    peer: str
    model: str
    round_number: int
    cold_start_s: float
    difference: float  # from ONNX Runtime's images, as a share of the largest value
    idle: Memory
    loaded: Memory
    processes: int
    loads: dict[Cell, Load] = field(default_factory=dict)
    streams: list[Stream] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The measurements as plain values."""
        plain = {key: value for key, value in vars(self).items() if key not in {"loads", "streams", "idle", "loaded"}}
        return plain | {
            "idle": self.idle._asdict(),
            "loaded": self.loaded._asdict(),
            "loads": {str(cell): asdict(load) for cell, load in self.loads.items()},
            "streams": [stream._asdict() for stream in self.streams],
        }


@dataclass(frozen=True)
class Programme:
    """The measurements to take of every server.

    Args:
        cells: closed loops.
        rates: open loops of one-row requests, for servers that speak gRPC.
        seconds: length of each.
    """

    cells: Sequence[Cell]
    rates: Sequence[float]
    seconds: int


def visit(
    peer: Peer,
    graph: ServedGraph,
    expected: Mapping[int, NDArray[np.float32]],
    programme: Programme,
    round_number: int,
    folder: Path,
) -> Visit:
    """Starts a server, measures it, stops it.

    Args:
        peer: the server.
        graph: the model to serve.
        expected: number of rows -> the right images, for all request sizes of the cells and others to check.
        programme: the measurements to take.
        round_number: for the record.
        folder: an empty folder.

    Raises:
        VisitError: the server could not be measured.
    """
    launch = peer.prepare(graph, folder)
    with ServerProcess(launch.command, launch.environment, folder) as server:
        try:
            port, cold_start_s = wait_for_first_answer(server, launch, graph)
            wait_until_idle(server)
            idle = server.memory()
            difference, sizes = _check(launch, port, graph, expected, peer.tolerance)
            record = Visit(peer.name, graph.name, round_number, cold_start_s, difference, idle, idle, server.count())
            _measure(server, launch, port, graph, programme, sizes, record)
            record.loaded = server.memory()
            # Again: some variants of ours load a second engine while they serve.
            record.difference = max(difference, _check(launch, port, graph, expected, peer.tolerance)[0])
        except (OSError, WrongAnswerError) as error:
            raise VisitError(f"{graph.name}: {error}; {_end_of(server.log)}") from error
    return record


def _measure(
    server: ServerProcess,
    launch: Launch,
    port: int,
    graph: ServedGraph,
    programme: Programme,
    sizes: Mapping[int, int],
    record: Visit,
) -> None:
    for cell in programme.cells:
        message = launch.protocol.message(graph, cell.rows)
        try:
            record.loads[cell] = closed_loop.drive(
                server, launch.protocol, port, message, sizes[cell.rows], cell, programme.seconds
            )
        except LoadError as error:
            record.problems.append(f"{cell}: {error}")
    if not isinstance(launch.protocol, OpenInference):
        return
    for rate in programme.rates:
        message = launch.protocol.message(graph, 1)
        began, machine_s, server_s = time.monotonic(), busy_s(), server.cpu_s()
        try:
            stream = open_loop.drive(server.log.parent, port, message, rate, programme.seconds)
        except LoadError as error:
            record.problems.append(f"{rate:g}/s: {error}")
            continue
        wall_s = time.monotonic() - began
        server_cores = (server.cpu_s() - server_s) / wall_s
        # It includes the start of the client, which its own figure leaves out.
        other_cores = max(0.0, (busy_s() - machine_s) / wall_s - server_cores - stream.client_cores)
        stream = stream._replace(server_cores=server_cores, other_cores=other_cores)
        record.streams.append(stream)
        if stream.failed:
            record.problems.append(f"{rate:g}/s: {stream.failed} of {stream.sent} requests failed")


def _check(
    launch: Launch, port: int, graph: ServedGraph, expected: Mapping[int, NDArray[np.float32]], tolerance: float
) -> tuple[float, dict[int, int]]:
    """Requests all expected images; returns the largest difference, and rows -> bytes of an answer's body."""
    protocol = launch.protocol
    sizes = {}
    largest = 0.0
    for rows, images in expected.items():
        if tolerance == float("inf"):  # no images to compare
            sizes[rows] = len(protocol.send(port, protocol.message(graph, rows))) + protocol.overhead_bytes
            continue
        got, sizes[rows] = protocol.ask(port, graph, rows)
        largest = max(largest, check_images(got, images, tolerance))
    return largest, sizes


def wait_for_first_answer(server: ServerProcess, launch: Launch, graph: ServedGraph) -> tuple[int, float]:
    """Returns the port, and the seconds from the server's start to its first answer.

    Raises:
        VisitError: the server did not answer.
    """
    protocol = launch.protocol
    message = protocol.message(graph, 1)
    last = "no port in its log"
    while time.monotonic() - server.began < _START_TIMEOUT_S:
        if server.ended():
            raise VisitError(f"{graph.name}: {launch.command[0]} exited; {_end_of(server.log)}")
        port = launch.find_port(server.log.read_text(errors="replace"))
        if port is not None:
            try:
                # Try a cheap TCP connection first: a gRPC channel backs off when it finds no server.
                socket.create_connection(("127.0.0.1", port), _CONNECT_TIMEOUT_S).close()
                protocol.send(port, message)
                return port, time.monotonic() - server.began
            except (OSError, WrongAnswerError) as error:  # it may listen before it is ready
                last = str(error)
        time.sleep(_POLL_S)
    raise VisitError(f"{graph.name}: no answer within {_START_TIMEOUT_S:g} s ({last}); {_end_of(server.log)}")


def wait_until_idle(server: ServerProcess) -> None:
    """Waits, with a timeout, until the server has finished work after its first answer, such as loading engines."""
    deadline = time.monotonic() + _IDLE_TIMEOUT_S
    idle_checks = 0
    while idle_checks < _IDLE_CHECKS and time.monotonic() < deadline:
        began, used = time.monotonic(), server.cpu_s()
        time.sleep(_IDLE_CHECK_S)
        idle = server.cpu_s() - used <= _IDLE_CORES * (time.monotonic() - began)
        idle_checks = idle_checks + 1 if idle else 0


def _end_of(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()[-_LOG_LINES:]
    return "its log ends: " + (" | ".join(line.strip() for line in lines) or "empty")
