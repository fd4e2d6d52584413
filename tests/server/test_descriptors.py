from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from server.descriptors import RESERVED_DESCRIPTORS, connections_within

ROOT = Path(__file__).parents[2]


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    code = """
import resource
from server.descriptors import raise_descriptor_limit
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
raise_descriptor_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard))
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "True\n"


@pytest.mark.parametrize(
    ("limit", "connections"),
    [
        (resource.RLIM_INFINITY, 10_000),
        (1 << 20, 10_000),
        (1024, 1024 - RESERVED_DESCRIPTORS),
        (200, 100),
    ],
)
def test_connections_leave_descriptors_for_everything_else(
    monkeypatch: pytest.MonkeyPatch, limit: int, connections: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert connections_within(10_000) == connections
