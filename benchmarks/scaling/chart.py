"""A figure of measured and simulated latencies over the load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

_COLORS = {"p50": "#1f77b4", "p99": "#d62728"}


def draw(checks: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Writes one panel per model; rows are those of `benchmarks.scaling.check.compare`."""
    figure = Figure(figsize=(4.2 * len(checks), 3.6), layout="constrained")
    panels = figure.subplots(1, len(checks), squeeze=False)[0]
    for panel, (model, rows) in zip(panels, checks.items(), strict=True):
        rates = [row["rate_per_s"] for row in rows]
        for name, color in _COLORS.items():
            panel.plot(
                rates, [row[f"{name} ms simulated"] for row in rows], "-", color=color, label=f"{name} simulated"
            )
            panel.plot(rates, [row[f"{name} ms"] for row in rows], "o", color=color, label=f"{name} measured")
        panel.set(title=model, xlabel="requests of one row per second", ylabel="latency, ms", yscale="log")
        panel.set_xlim(0, 1.1 * max(rates))
        panel.xaxis.set_major_formatter("{x:,.0f}")
        panel.yaxis.set_major_formatter("{x:g}")
        panel.locator_params(axis="x", nbins=5)
        panel.grid(visible=True, which="both", alpha=0.25)
    panels[0].legend(frameon=False, fontsize="small")
    figure.savefig(path, metadata={"Date": None})
