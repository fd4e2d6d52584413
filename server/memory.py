"""Compares the memory that the server may need with the limit of its container, before the kernel ends it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from server.config import ServerConfig

_MIB: Final = 1 << 20


def resident_bytes() -> int:
    """The memory that this process holds now; Linux only."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def shortage(config: ServerConfig, limit_bytes: int, used_bytes: int) -> str | None:
    """What to tell the operator if requests in progress may need more memory than there is; None if they fit.

    Args:
        config: its budgets bound the requests and answers in progress. Images that are being decoded come on top.
        limit_bytes: the most that the process may use.
        used_bytes: what it uses once the models are loaded.
    """
    needed_bytes = used_bytes + config.input_budget_bytes + config.answer_budget_bytes
    if needed_bytes <= limit_bytes:
        return None
    return (
        f"this container may use {limit_bytes // _MIB} MiB of memory: the server holds {used_bytes // _MIB} MiB with"
        f" its models, and requests may need {(needed_bytes - used_bytes) // _MIB} MiB more, after which the kernel"
        " ends it; raise the limit, or serve fewer models"
    )
