"""Compares our server with its rivals: same graphs, requests, load generator and machine, one server at a time.

    python -m benchmarks.peers.setup
    python -m benchmarks.serve_peers [--peers ours,triton,floor] [--model gan28] [--cells 1x32,64x4] [--out FILE]

A cell 64x4 is four concurrent requests of 64 rows. Every round starts every server again, in rotating order, and checks
its images against ONNX Runtime before and after the load; the tables show medians over rounds. The load generator
shares the machine, so read ratios. benchmarks/peers/README.md describes the setup and the settings of the rivals.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import click

from benchmarks.peers import tables
from benchmarks.peers.catalogue import Peer
from benchmarks.peers.choice import PEER_NAMES, Choice, choose_cells, choose_models, choose_peers, choose_rates
from benchmarks.peers.closed_loop import LoadError, h2load_path
from benchmarks.peers.graphs import MODELS, make_graphs
from benchmarks.peers.homes import default_home
from benchmarks.peers.in_process import Limit, measure_apart
from benchmarks.peers.layout import Layout, one_instance_on_all_cores, one_instance_per_core
from benchmarks.peers.served_graph import ServedGraph
from benchmarks.peers.visit import Programme, Visit, VisitError, visit
from benchmarks.peers.wire import checked_rows
from benchmarks.report import machine, report

_USER_ERROR = 2
_DISTURBED_CORES = 0.15


class Recorder:
    """All measurements and problems so far."""

    def __init__(self) -> None:
        self.visits: list[Visit] = []
        self.limits: dict[tuple[str, str, int], list[Limit]] = {}
        self.problems: list[str] = []

    def complain(self, problem: str) -> None:
        """Reports a problem now, and again at the end."""
        self.problems.append(problem)
        click.secho(f"PROBLEM {problem}", fg="red", bold=True, err=True)

    def save(self, path: Path, settings: dict[str, Any]) -> None:
        """Writes everything as JSON."""
        limits = [
            {"model": model, "layout": layout, "rows": rows, "rounds": [limit._asdict() for limit in rounds]}
            for (model, layout, rows), rounds in self.limits.items()
        ]
        document = {
            "title": "serving, ours and rivals",
            "when": time.strftime("%Y-%m-%d %H:%M"),
            "machine": machine(),
            "settings": settings,
            "problems": self.problems,
            "visits": [each.to_json() for each in self.visits],
            "in_process": limits,
        }
        path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")


def available(peers: Sequence[Peer], home: Path, recorder: Recorder) -> list[Peer]:
    """The servers that are set up; reports the others."""
    there = [peer for peer in peers if peer.environment is None or peer.environment.is_ready(home)]
    for peer in peers:
        if peer not in there and peer.environment is not None:
            name = peer.environment.name
            recorder.complain(
                f"SKIPPED {peer.name}: not set up in {home}; run python -m benchmarks.peers.setup --peer-home {home}"
                f" --only {name}"
            )
    return there


def measure_round(
    number: int, peers: Sequence[Peer], graph: ServedGraph, programme: Programme, recorder: Recorder
) -> None:
    """Measures every server once."""
    expected = {rows: graph.images(rows) for rows in checked_rows([cell.rows for cell in programme.cells])}
    turn = number % len(peers) if peers else 0
    for peer in [*peers[turn:], *peers[:turn]]:
        with tempfile.TemporaryDirectory(prefix="peer-", ignore_cleanup_errors=True) as folder:
            try:
                record = visit(peer, graph, expected, programme, number, Path(folder))
            except VisitError as error:
                recorder.complain(f"round {number + 1}: {peer.name}: {error}")
                continue
        recorder.visits.append(record)
        for problem in record.problems:
            recorder.complain(f"round {number + 1}: {peer.name}, {graph.name}, {problem}")
        for cell, load in record.loads.items():
            if load.other_cores > _DISTURBED_CORES:
                recorder.complain(
                    f"round {number + 1}: {peer.name}, {graph.name}, {cell}: other programs took"
                    f" {load.other_cores:.2f} cores during the measurement"
                )
        for stream in record.streams:
            if stream.other_cores > _DISTURBED_CORES:
                recorder.complain(
                    f"round {number + 1}: {peer.name}, {graph.name}, {stream.rate_per_s:g}/s: other programs took"
                    f" {stream.other_cores:.2f} cores during the measurement"
                )
        speeds = ", ".join(f"{cell} {load.images_per_s:,.0f}" for cell, load in record.loads.items())
        click.echo(f"round {number + 1}: {peer.name}, {graph.name}: images/s {speeds}")


def measure_limits(graph: ServedGraph, sizes: Sequence[int], seconds: int, recorder: Recorder) -> None:
    """Measures the runtime without a server, in every layout."""
    layouts = dict.fromkeys([Layout(1, 1), one_instance_per_core(), one_instance_on_all_cores()])
    for layout in layouts:
        for rows in sizes:
            try:
                limit = measure_apart(graph.graph, layout, rows, seconds)
            except LoadError as error:
                recorder.complain(f"{graph.name}: {error}")
                continue
            recorder.limits.setdefault((graph.name, f"in-process {layout}", rows), []).append(limit)


def print_tables(recorder: Recorder, models: Sequence[str], choice: Choice, rounds: int) -> None:
    """Prints the measurements, model by model."""
    for model in models:
        visits = [each for each in recorder.visits if each.model == model]
        order = {peer.name: place for place, peer in enumerate(choice.peers)}
        visits.sort(key=lambda each: order[each.peer])
        measured = {each.peer for each in visits}
        titled = [
            ("images/s", tables.throughput_table(visits)),
            ("lowest and highest round, relative to the median", tables.spread_table(visits) if rounds > 1 else []),
            ("p50 / p99 ms", tables.latency_table(visits)),
            ("cores used: server / client / other programs", tables.cores_table(visits)),
            *(
                (f"images/s of {peer.name} relative to each other server", tables.ratio_table(visits, peer.name))
                for peer in choice.peers
                if peer.is_ours and peer.name in measured
            ),
            ("start and memory", tables.start_table(visits)),
            ("open loop, 1 row per request, latency since due", tables.open_loop_table(visits)),
            ("ONNX Runtime alone, images/s (p50 of a run)", tables.limits_table(recorder.limits, model)),
        ]
        for title, rows in titled:
            if rows:
                report(f"{model}: {title}", rows, None)


def _end(signal_number: int, _: FrameType | None) -> None:
    sys.exit(128 + signal_number)  # leaves every context, so that no server keeps running


@click.command(context_settings={"show_default": True, "max_content_width": 120})
@click.option("--peers", default="ours,triton,pytriton,mlserver,mosec,floor,in-process", help=", ".join(PEER_NAMES))
@click.option(
    "--ours", "variants", multiple=True, metavar="NAME:FLAGS", help="Also measure our server with these flags."
)
@click.option("--model", "models", default=",".join(MODELS), help="Models to serve.")
@click.option("--cells", default="1x1,1x32,1x128,64x1,64x4,64x8", help="ROWSxCONCURRENCY.")
@click.option("--open-loop", default="gan28:500,dcgan64:150", help="MODEL:REQUESTS_PER_SECOND; empty for none.")
@click.option("--seconds", type=click.IntRange(1, 600), default=4, help="Seconds per cell, after a warm-up.")
@click.option("--rounds", type=click.IntRange(1, 100), default=3)
@click.option("--plain-export", is_flag=True, help="Rivals serve the graph of torch.onnx.export(dynamo=False).")
@click.option("--peer-home", type=click.Path(file_okay=False, path_type=Path), default=default_home)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="JSON file to write.")
def main(
    peers: str,
    variants: tuple[str, ...],
    models: str,
    cells: str,
    open_loop: str,
    seconds: int,
    rounds: int,
    peer_home: Path,
    out: Path | None,
    *,
    plain_export: bool,
) -> None:
    """Measures our server and its rivals, round by round."""
    home = peer_home.absolute()
    try:
        choice = choose_peers(peers, variants, home)
        names, sizes, rates = choose_models(models), choose_cells(cells), choose_rates(open_loop)
        if choice.peers and h2load_path() is None:
            raise ValueError("h2load is not installed; install it (Debian and Ubuntu: nghttp2-client)")
    except ValueError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(_USER_ERROR)
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _end)
    recorder = Recorder()
    ready = available(choice.peers, home, recorder)
    settings = {"seconds": seconds, "rounds": rounds, "plain_export": plain_export, "ours": list(variants)}
    with tempfile.TemporaryDirectory(prefix="peer-graphs-") as folder:
        variants_needed = sorted({peer.precision for peer in ready} - {"fp32"})
        graphs = make_graphs(Path(folder), names, variants=variants_needed, plain_export=plain_export)
        for graph in graphs:
            for precision in graph.left_out:
                recorder.complain(f"{graph.name}: its {precision} variant is too inaccurate and not in our bundle")
        for number in range(rounds):
            for graph in graphs:
                if choice.in_process:
                    measure_limits(graph, sorted({1, *(cell.rows for cell in sizes)}), seconds, recorder)
                programme = Programme(sizes, rates.get(graph.name, []), seconds)
                measure_round(number, ready, graph, programme, recorder)
                if out is not None:
                    recorder.save(out, settings)  # each time: a run is long
    print_tables(recorder, names, choice, rounds)
    for problem in recorder.problems:
        click.secho(f"PROBLEM {problem}", fg="red", bold=True, err=True)
    if out is not None:
        click.echo(f"written to {out}")


if __name__ == "__main__":
    main()
