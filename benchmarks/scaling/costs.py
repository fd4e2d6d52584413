"""What a model costs on a machine: measured by `measure`, and all that the simulation knows of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ThreadCosts:
    """CPU time of a thread that handles all that has come since its last turn.

    `wake_s` is for a turn after a sleep; a busy thread goes from turn to turn.
    `row_s` is for each row of a request after the first: more bytes, and no more calls.
    """

    wake_s: float = 0.0
    request_s: float = 0.0
    row_s: float = 0.0

    def turn(self, requests: int, rows: int, *, is_woken: bool) -> float:
        """Seconds of a turn that handles requests with `rows` rows together."""
        return is_woken * self.wake_s + requests * self.request_s + (rows - requests) * self.row_s


@dataclass(frozen=True)
class ModelCosts:
    """One model, served by one process.

    Args:
        model: its name.
        cores: of the machine.
        engines: narrow instances, of one thread each.
        batch_s: a batch of b rows takes `batch_s + b * row_s` on one core, alone.
        row_s: see `batch_s`.
        wide_s: one row on the instance that uses all cores.
        beside_factor: how much slower everything is while all cores are busy.
        inline_rows: see `server.scheduling.instances.GroupLimits`, as measured at load.
        min_share_rows: likewise.
        wide_rows: likewise.
        quick_rows: up to this many rows of a lone client run on the event loop.
        loop: the event loop, which runs all Python of a request.
        network: gRPC's threads together.
        client: the load generator on the same machine, per visit: it handles each request twice.
        answer_bytes: of one row.
    """

    model: str
    cores: int
    engines: int
    batch_s: float
    row_s: float
    wide_s: float
    beside_factor: float
    inline_rows: int
    min_share_rows: int
    wide_rows: int
    quick_rows: int
    loop: ThreadCosts
    network: ThreadCosts
    client: ThreadCosts
    answer_bytes: int

    def compute_s(self, rows: int) -> float:
        """Seconds of a batch on one core, alone."""
        return self.batch_s + rows * self.row_s

    def save(self, path: Path, **more: Any) -> None:
        """Writes JSON, with `more` beside the costs."""
        path.write_text(json.dumps({"costs": asdict(self)} | more, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> ModelCosts:
        """Reads what `save` wrote."""
        fields = json.loads(path.read_text())["costs"]
        threads = {name: ThreadCosts(**fields[name]) for name in ("loop", "network", "client")}
        return cls(**fields | threads)
