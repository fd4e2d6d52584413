"""Keeps freed memory for the next answers, and compares what the server may need with the limit of its container."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from server.config import ServerConfig

_MIB: Final = 1 << 20
_LARGEST_STEP_BYTES: Final = 32 * _MIB - 8192  # glibc adapts to blocks of up to 32 MiB, with their header and page


def keep_freed_memory() -> None:
    """Lets the process keep up to 64 MiB that it has freed, instead of giving them back after every answer.

    glibc gives the free memory at the top of the heap back once it is twice the largest block that was freed so far.
    For answers of 200 kB it does so every few requests; getting zeroed pages again then takes longer than the answers.
    Freeing a block takes glibc to the end of that adaptation. Settings of its own, such as the variable
    MALLOC_TRIM_THRESHOLD_, remain in effect.
    """
    bytearray(_LARGEST_STEP_BYTES)  # never written, so it takes no memory


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
