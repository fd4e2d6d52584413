from __future__ import annotations

from pathlib import Path

from benchmarks.version_swaps import swap
from tests.server.tiny_bundles import publish_tiny_bundle

LIVE = ("sessions", "batchers", "models", "files")


async def test_swaps_under_load_lose_no_request_and_leave_nothing_behind(tmp_path: Path) -> None:
    for version in (1, 2):
        publish_tiny_bundle(tmp_path, version=version, seed=version)
    table = await swap(tmp_path, "tiny", swaps=10, callers=4, points=2)
    first, last = table[0], table[-1]
    assert (last["swaps"], last["failed"], last["wrong"]) == (10, 0, 0)
    assert last["answers"] > 0
    assert {kind: last[kind] for kind in LIVE} == {kind: first[kind] for kind in LIVE}
