"""The report of a benchmark: a table on the screen and a JSON file, both with details of the machine."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ganserve.foreign import version_of
from ganserve.machine import usable_cores

_PACKAGES = ("torch", "onnxruntime-gpu", "onnxruntime", "grpcio", "numpy")


def machine() -> dict[str, Any]:
    """The processor and the versions that a measurement depends on."""
    versions = {package: found for package in _PACKAGES if (found := version_of(package)) != "unknown"}
    return {"processor": _processor(), "cores": usable_cores(), "python": platform.python_version()} | versions


def report(title: str, rows: Sequence[Mapping[str, Any]], out: Path | None) -> None:
    """Prints rows with equal keys as a table, and writes them as JSON to `out`."""
    table = Table(title=title)
    for key in rows[0]:
        table.add_column(key, justify="left" if isinstance(rows[0][key], str) else "right")
    for row in rows:
        table.add_row(*(f"{value:,.2f}" if isinstance(value, float) else str(value) for value in row.values()))
    console = Console(width=140)
    console.print(table)
    console.print(", ".join(f"{key} {value}" for key, value in machine().items()))
    if out is not None:
        document = {"title": title, "when": time.strftime("%Y-%m-%d %H:%M"), "machine": machine(), "rows": rows}
        out.write_text(json.dumps(document, indent=2) + "\n")
        console.print(f"written to {out}")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
