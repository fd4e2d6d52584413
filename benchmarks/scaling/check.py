"""Compares the simulation with load curves that `benchmarks.serve_peers` measured."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.scaling.costs import ModelCosts
from benchmarks.scaling.simulation import simulate

DISTURBED_CORES: Final = 0.15  # of other programs; such measurements are left out
COMPARED: Final = {"answered_per_s": "requests/s", "p50_ms": "p50 ms", "p99_ms": "p99 ms"}


class CurveError(Exception):
    """A curve cannot be compared; the message says why."""


def measured_streams(curves: Sequence[Path], model: str, peer: str) -> dict[float, list[dict[str, float]]]:
    """The open loops by rate; those that other programs disturbed are left out.

    Raises:
        CurveError: there are none.
    """
    by_rate: dict[float, list[dict[str, float]]] = {}
    for visit in _visits(curves, model, peer):
        for stream in visit["streams"]:
            if stream["other_cores"] <= DISTURBED_CORES:
                by_rate.setdefault(stream["rate_per_s"], []).append(stream)
    if not by_rate:
        raise CurveError(f"no open loop of {peer!r} with {model!r} ran undisturbed: measure on an idle machine")
    return dict(sorted(by_rate.items()))


def saturated_per_s(curves: Sequence[Path], model: str, peer: str) -> float:
    """The median throughput of the closed loops with the most callers, in rows per second.

    Raises:
        CurveError: there are none.
    """
    loads: list[float] = [
        load["images_per_s"]
        for visit in _visits(curves, model, peer)
        for cell, load in visit["loads"].items()
        if cell == "1x128" and load["other_cores"] <= DISTURBED_CORES
    ]
    if not loads:
        raise CurveError(f"no closed loop 1x128 of {peer!r} with {model!r} ran undisturbed: measure with --cells 1x128")
    return statistics.median(loads)


def compare(
    costs: ModelCosts, curves: Sequence[Path], peer: str = "ours", requests: int = 20_000
) -> list[dict[str, Any]]:
    """One row per load: medians of the measured rounds, the simulation of `requests`, and its relative errors."""
    saturated = saturated_per_s(curves, costs.model, peer)
    rows: list[dict[str, Any]] = []
    for rate, streams in measured_streams(curves, costs.model, peer).items():
        predicted = simulate(costs, rate, requests / rate, with_client=True)._asdict()
        row: dict[str, Any] = {"load": f"{rate / saturated:.0%}", "rounds": len(streams)}
        for field, name in COMPARED.items():
            measured = statistics.median(stream[field] for stream in streams)
            row |= {name: measured, f"{name} simulated": predicted[field]}
            row[f"{name} error"] = predicted[field] / measured - 1
        row["failed"] = sum(int(stream["failed"]) for stream in streams)
        row["rate_per_s"] = rate
        rows.append(row)
    return rows


def _visits(curves: Sequence[Path], model: str, peer: str) -> list[dict[str, Any]]:
    visits = [visit for path in curves for visit in json.loads(path.read_text())["visits"]]
    return [visit for visit in visits if visit["model"] == model and visit["peer"] == peer]
