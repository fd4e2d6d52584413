"""How many cores and how much memory this process may use. A container often has fewer than the machine.

A container's limits are those of its control groups (cgroups, version 1 or 2). A group can have a limit of its own, and
everything inside is also bound by the groups around it, so the smallest limit on the path up counts.
"""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/")
_NO_LIMIT_BYTES: Final = 1 << 60  # version 1 writes "no limit" as the largest number of pages


def usable_cores(root: Path = _ROOT) -> int:
    """The number of cores for which this process should start threads: at least 1.

    A CPU quota of 1.5 cores allows 2 threads at once. More would use the quota up early in every period and then all
    stand still until the next one.

    Args:
        root: of the file system, to read the limits.
    """
    quotas = [quota for folder in _groups(root, "cpu") if (quota := _cpu_quota(folder)) is not None]
    return max(1, min([_allowed_cores(), *map(math.ceil, quotas)]))


def memory_limit_bytes(root: Path = _ROOT) -> int | None:
    """The most memory that this process may use; None if nothing limits it below the memory of the machine."""
    limits = [limit for folder in _groups(root, "memory") if (limit := _memory_limit(folder)) is not None]
    return min(limits, default=None)


def free_memory_bytes(root: Path = _ROOT) -> int | None:
    """The memory that this process may still take: of the machine, its container and its `ulimit -v`. None: unknown.

    Memory that holds copies of files counts as free, because the kernel gives it back.
    """
    free = [available * 1024 for available in _numbers(root / "proc/meminfo", "MemAvailable:")]
    limits = ((_memory_limit(folder), _memory_in_use(folder)) for folder in _groups(root, "memory"))
    free += [limit - used for limit, used in limits if limit is not None and used is not None]
    address_space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if address_space != resource.RLIM_INFINITY:
        free += [address_space - size * 1024 for size in _numbers(root / "proc/self/status", "VmSize:")]
    return max(0, min(free)) if free else None


def limit_torch_threads() -> None:
    """Lets PyTorch start at most as many threads as there are usable cores; it does not know of CPU quotas."""
    import torch

    torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))


def _allowed_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_quota(folder: Path) -> float | None:
    """The quota of one group in cores; None without one."""
    for files in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        words = " ".join(_read(folder / file) for file in files).split()
        if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[1]):
            return int(words[0]) / int(words[1])
    return None


def _memory_limit(folder: Path) -> int | None:
    for file in ("memory.max", "memory.limit_in_bytes"):
        text = _read(folder / file).strip()
        if text.isdecimal() and int(text) < _NO_LIMIT_BYTES:
            return int(text)
    return None


def _memory_in_use(folder: Path) -> int | None:
    """What the processes of one group hold, without copies of files that the kernel can drop; None if unknown."""
    for file, key in (("memory.current", "inactive_file"), ("memory.usage_in_bytes", "total_inactive_file")):
        text = _read(folder / file).strip()
        if text.isdecimal():
            return max(0, int(text) - sum(_numbers(folder / "memory.stat", key)))
    return None


def _numbers(file: Path, key: str) -> list[int]:
    """The number behind `key` in a file of lines such as "MemAvailable: 12345 kB"; empty without it."""
    lines = (line.split() for line in _read(file).splitlines())
    return [int(words[1]) for words in lines if len(words) > 1 and words[0] == key and words[1].isdecimal()]


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of the groups of this process that may limit a resource, each followed by the groups around it."""
    mounts = list(_mounts(root))
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)  # version 2 has one hierarchy for all controllers, and no names
        if names and controller not in names.split(","):
            continue
        for controllers, inside, mounted in mounts:
            if (controller in controllers) if names else not controllers:
                yield from _upwards(root / mounted.lstrip("/"), path, inside)


def _mounts(root: Path) -> Iterator[tuple[frozenset[str], str, str]]:
    """For each mounted hierarchy: its controllers (none for version 2), the group that is mounted, and where."""
    for line in _read(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        inside, mounted = before.split(" ")[3:5]
        kind, _, options = after.split(" ", 2)
        if kind in {"cgroup", "cgroup2"}:
            yield frozenset(options.split(",") if kind == "cgroup" else ()), inside, mounted


def _upwards(mounted: Path, path: str, inside: str) -> Iterator[Path]:
    """The folder of the group `path` and those above it, where the group `inside` is mounted at `mounted`."""
    inside = inside.rstrip("/")
    folder = mounted
    # A container may see the path on its host, but has mounted only its own group.
    if path.startswith(f"{inside}/") and ".." not in path:
        folder = mounted / path.removeprefix(inside).strip("/")
    yield folder
    while folder != mounted:
        folder = folder.parent
        yield folder


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
