"""Parses command-line values into servers, cells, models and rates. Invalid values raise a ValueError."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.catalogue import MAX_BATCH_ROWS, RIVALS, Peer, floor, ours
from benchmarks.peers.closed_loop import Cell
from benchmarks.peers.graphs import MODELS
from benchmarks.peers.layout import Layout

OURS = "ours"
FLOOR = "floor"
IN_PROCESS = "in-process"
PEER_NAMES = (OURS, *RIVALS, FLOOR, IN_PROCESS)
_MIN_RATE, _MAX_RATE = 1.0, 100_000.0


@dataclass(frozen=True)
class Choice:
    """The servers to measure, and whether to measure the runtime alone."""

    peers: tuple[Peer, ...]
    in_process: bool


def choose_peers(text: str, variants: Sequence[str], home: Path) -> Choice:
    """Reads "ours,triton,triton:4x1,floor", and variants of ours like "bf16:--precision bf16"."""
    peers: list[Peer] = []
    names = _split(text)
    if variants and OURS not in names:
        raise ValueError(f"--ours {variants[0]!r} needs {OURS} among the peers")
    for item in names:
        name, _, layout = item.partition(":")
        if name in RIVALS:
            define, layouts = RIVALS[name]
            peers += [define(home, each) for each in ([Layout.parse(layout)] if layout else layouts)]
        elif item == OURS:
            peers += [ours(OURS, ""), *(_variant(variant) for variant in variants)]
        elif item == FLOOR:
            peers.append(floor())
        elif item != IN_PROCESS:
            raise ValueError(
                f"{item!r}: choose from {', '.join(PEER_NAMES)}; a rival may have a layout, as in triton:2x1"
            )
    once = {peer.name: peer for peer in peers}
    return Choice(tuple(once.values()), IN_PROCESS in names)


def choose_models(text: str) -> list[str]:
    """Reads "gan28,dcgan64"."""
    for name in _split(text):
        if name not in MODELS:
            raise ValueError(f"{name!r}: choose from {', '.join(MODELS)}")
    return _split(text)


def choose_cells(text: str) -> list[Cell]:
    """Reads "1x32,64x4"."""
    cells = [Cell.parse(item) for item in _split(text)]
    for cell in cells:
        if cell.rows > MAX_BATCH_ROWS:
            raise ValueError(f"{cell}: at most {MAX_BATCH_ROWS} rows, the largest batch of every server")
    return cells


def choose_rates(text: str) -> dict[str, list[float]]:
    """Reads "gan28:500,dcgan64:150": requests per second of one row, by model; empty for ""."""
    rates: dict[str, list[float]] = {}
    for item in _split(text) if text else []:
        name, _, rate = item.partition(":")
        if name not in MODELS:
            raise ValueError(f"{item!r}: choose the model from {', '.join(MODELS)}")
        try:
            number = float(rate)
        except ValueError:
            number = 0.0
        if not _MIN_RATE <= number <= _MAX_RATE:
            raise ValueError(f"{item!r}: write MODEL:RATE, {_MIN_RATE:g} to {_MAX_RATE:g} requests per second")
        rates.setdefault(name, []).append(number)
    return rates


def _variant(text: str) -> Peer:
    name, separator, flags = text.partition(":")
    if not separator or not name.isidentifier():
        raise ValueError(f"--ours {text!r}: write NAME:FLAGS, such as 'bf16:--precision bf16'")
    return ours(f"{OURS} {name}", flags)


def _split(text: str) -> list[str]:
    items = list(dict.fromkeys(item.strip() for item in text.split(",")))
    if "" in items:
        raise ValueError(f"{text!r} has an empty item")
    return items
