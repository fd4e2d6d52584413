"""A sample that eight processes make in parts, two of which are killed: byte for byte what one process makes."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from tests.end_to_end.conftest import START_TIMEOUT_S, run_python, running_server
from tests.server.tiny_bundles import publish_tiny_bundle

pytestmark = pytest.mark.slow

IMAGES = 100_000
SHARDS = 8
KILLED = (2, 5)
AT_LEAST_BYTES = 100_000  # of a partial file whose process is killed


def command(out: Path, address: str, *flags: str) -> list[str]:
    sample = ["-m", "client", "sample", "--model", "tiny", "--n", str(IMAGES), "--seed", "11", "--out", str(out)]
    return [*sample, "--address", address, *flags]


def part(shard: int) -> list[str]:
    return ["--shards", str(SHARDS), "--shard", str(shard)]


def kill_halfway(arguments: list[str], partial: Path) -> None:
    """Starts a process and kills it once it has written a part of its images."""
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL) as process:
        give_up_s = time.monotonic() + START_TIMEOUT_S
        while not (partial.is_file() and partial.stat().st_size >= AT_LEAST_BYTES):
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() < give_up_s
            time.sleep(0.001)  # there is no event for a file that grows
        process.kill()


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


@pytest.mark.timeout(900)
def test_parts_with_two_kills_are_the_sample_of_one_process(tmp_path: Path) -> None:
    publish_tiny_bundle(tmp_path / "models", "tiny")
    with running_server(tmp_path / "models") as server:
        whole = run_python(*command(tmp_path / "whole.tar", server.address))
        assert whole.returncode == 0, whole.stderr
        for shard in range(SHARDS):
            arguments = command(tmp_path / f"{shard}.tar", server.address, *part(shard))
            if shard in KILLED:
                kill_halfway(arguments, tmp_path / f"{shard}.tar.partial")
                assert not (tmp_path / f"{shard}.tar").exists()
            made = run_python(*arguments)
            assert made.returncode == 0, made.stderr
            assert ("from an earlier run" in made.stdout) == (shard in KILLED)
    together: dict[str, bytes] = {}
    for shard in range(SHARDS):
        together |= members(tmp_path / f"{shard}.tar")
    assert len(together) == 2 * IMAGES
    assert together == members(tmp_path / "whole.tar")
