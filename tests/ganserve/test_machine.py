from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from ganserve import machine
from ganserve.machine import free_memory_bytes, limit_torch_threads, memory_limit_bytes, usable_cores

V2 = "31 23 0:28 {inside} /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 {inside} /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 {inside} /sys/fs/cgroup/memory rw,relatime master:3 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
V1_GROUPS = "9:cpu,cpuacct:{path}\n4:memory:{path}\n1:name=systemd:/\n0::/\n"
GIB = 1 << 30

WriteRoot = Callable[..., Path]


@pytest.fixture(autouse=True)
def _a_machine_with_64_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))


@pytest.fixture
def root(tmp_path: Path) -> WriteRoot:
    """Writes a root of a file system with control groups."""

    def write(mounts: str, groups: str, files: Mapping[str, str]) -> Path:
        for name, text in {"proc/self/mountinfo": mounts, "proc/self/cgroup": groups, **files}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    return write


def v2(root: WriteRoot, files: Mapping[str, str], path: str = "/", inside: str = "/") -> Path:
    files = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    return root(V2.format(inside=inside), f"0::{path}\n", files)


def v1(root: WriteRoot, files: Mapping[str, str], path: str = "/", inside: str = "/") -> Path:
    files = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    return root(V1.format(inside=inside), V1_GROUPS.format(path=path), files)


@pytest.mark.parametrize(
    ("files", "path", "cores"),
    [
        ({"cpu.max": "200000 100000\n"}, "/", 2),
        ({"cpu.max": "150000 100000\n"}, "/", 2),
        ({"cpu.max": "10000 100000\n"}, "/", 1),
        ({"cpu.max": "25000 25000\n"}, "/", 1),
        ({"cpu.max": "9900000 100000\n"}, "/", 64),
        ({"cpu.max": "max 100000\n"}, "/", 64),
        ({"cpu.max": ""}, "/", 64),
        ({}, "/", 64),
        ({"a/b/cpu.max": "300000 100000\n"}, "/a/b", 3),
        ({"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "max 100000\n"}, "/a/b", 2),
        ({"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "400000 100000\n"}, "/a/b", 2),
        ({"cpu.max": "400000 100000\n"}, "/../outside", 4),
    ],
)
def test_the_smallest_quota_of_version_2_on_the_path_up_bounds_the_cores(
    root: WriteRoot, files: dict[str, str], path: str, cores: int
) -> None:
    assert usable_cores(v2(root, files, path)) == cores


@pytest.mark.parametrize(
    ("quotas", "path", "cores"),
    [
        ({"": ("200000", "100000")}, "/", 2),
        ({"": ("-1", "100000")}, "/", 64),
        ({"": ("150000", "100000")}, "/", 2),
        ({"": ("200000", "0")}, "/", 64),
        ({"": ("-1", "100000"), "a/": ("300000", "100000"), "a/b/": ("-1", "100000")}, "/a/b", 3),
        ({"a/": ("300000", "100000"), "a/b/": ("50000", "100000")}, "/a/b", 1),
    ],
)
def test_the_smallest_quota_of_version_1_on_the_path_up_bounds_the_cores(
    root: WriteRoot, quotas: dict[str, tuple[str, str]], path: str, cores: int
) -> None:
    files = {
        f"cpu,cpuacct/{folder}cpu.cfs_{kind}_us": f"{value}\n"
        for folder, values in quotas.items()
        for kind, value in zip(("quota", "period"), values, strict=True)
    }
    assert usable_cores(v1(root, files, path)) == cores


def test_a_container_that_sees_the_path_of_its_host_finds_its_own_group(root: WriteRoot) -> None:
    files = {"cpu,cpuacct/cpu.cfs_quota_us": "200000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}
    assert usable_cores(v1(root, files, path="/docker/1a2b", inside="/docker/1a2b")) == 2
    assert usable_cores(v1(root, files, path="/docker/1a2b", inside="/elsewhere")) == 2
    assert usable_cores(v2(root, {"cpu.max": "300000 100000\n"}, path="/docker/1a2b/x", inside="/docker/1a2b")) == 3


def test_the_affinity_bounds_the_cores_too(root: WriteRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5, 9})
    assert usable_cores(v2(root, {"cpu.max": "800000 100000\n"})) == 3


def test_without_control_groups_only_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == 64
    assert memory_limit_bytes(tmp_path) is None


@pytest.mark.parametrize(
    ("files", "path", "limit"),
    [
        ({"memory.max": f"{2 * GIB}\n"}, "/", 2 * GIB),
        ({"memory.max": "max\n"}, "/", None),
        ({"a/memory.max": f"{GIB}\n", "a/b/memory.max": f"{2 * GIB}\n"}, "/a/b", GIB),
    ],
)
def test_the_memory_limit_of_version_2(root: WriteRoot, files: dict[str, str], path: str, limit: int | None) -> None:
    assert memory_limit_bytes(v2(root, files, path)) == limit


@pytest.mark.parametrize(("text", "limit"), [(f"{GIB}\n", GIB), ("9223372036854771712\n", None), ("-1\n", None)])
def test_the_memory_limit_of_version_1(root: WriteRoot, text: str, limit: int | None) -> None:
    assert memory_limit_bytes(v1(root, {"memory/memory.limit_in_bytes": text})) == limit


MEMINFO = f"MemTotal: {64 << 20} kB\nMemFree: {1 << 20} kB\nMemAvailable: {8 << 20} kB\n"


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 8 * GIB),
        ({"memory.max": "max\n", "memory.current": f"{GIB}\n"}, 8 * GIB),
        ({"memory.max": f"{4 * GIB}\n", "memory.current": f"{GIB}\n"}, 3 * GIB),
        ({"memory.max": f"{4 * GIB}\n", "memory.current": f"{5 * GIB}\n"}, 0),
        (
            {"memory.max": f"{4 * GIB}\n", "memory.current": f"{3 * GIB}\n", "memory.stat": f"inactive_file {GIB}\n"},
            2 * GIB,
        ),
    ],
)
def test_free_memory_is_that_of_the_machine_and_of_the_container(
    root: WriteRoot, files: dict[str, str], free: int
) -> None:
    folder = v2(root, files)
    (folder / "proc/meminfo").write_text(MEMINFO)
    assert free_memory_bytes(folder) == free


def test_free_memory_in_version_1(root: WriteRoot) -> None:
    limits = {"memory/memory.limit_in_bytes": f"{4 * GIB}", "memory/memory.usage_in_bytes": f"{3 * GIB}"}
    assert free_memory_bytes(v1(root, limits | {"memory/memory.stat": f"total_inactive_file {GIB}\n"})) == 2 * GIB


def test_a_limit_on_the_address_space_bounds_the_free_memory(root: WriteRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = v2(root, {})
    (folder / "proc/meminfo").write_text(MEMINFO)
    (folder / "proc/self/status").write_text(f"Name:\tpython\nVmSize:\t{2 << 20} kB\n")
    monkeypatch.setattr("ganserve.machine.resource.getrlimit", lambda _: (5 * GIB, 5 * GIB))
    assert free_memory_bytes(folder) == 3 * GIB


def test_free_memory_is_unknown_without_any_figure(tmp_path: Path) -> None:
    assert free_memory_bytes(tmp_path) is None


def test_pytorch_starts_at_most_one_thread_per_usable_core(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    torch.set_num_threads(4)
    monkeypatch.setattr(machine, "usable_cores", lambda: 2)
    limit_torch_threads()
    assert torch.get_num_threads() == 2
    monkeypatch.setattr(machine, "usable_cores", lambda: 8)
    limit_torch_threads()
    assert torch.get_num_threads() == 2
