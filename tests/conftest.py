"""What holds for every test."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Several workers run side by side, and torch's threads wait for each other: one each is several times as fast. Set
# before torch is imported, and for the processes that tests start: sums depend on how they are shared by threads, and
# tests compare what two processes have trained.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

# Other tests run beside these, so how long an example takes says nothing.
settings.register_profile("ganserve", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ganserve")


@pytest.fixture(autouse=True)
def _no_cache_of_the_users(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What tests train is neither found in the user's cache nor left there."""
    if not os.environ.get("GANSERVE_CACHE"):
        monkeypatch.setenv("GANSERVE_CACHE", str(_cache_folder(tmp_path_factory)))


@pytest.fixture(autouse=True)
def _one_thread_of_torch() -> Iterator[None]:
    """The next test finds one thread again: a TorchScript engine sets the number for the thread that calls it."""
    yield
    torch = sys.modules.get("torch")  # not imported for tests that have no use for it
    if torch is not None:
        torch.set_num_threads(1)


def _cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.getbasetemp() / "cache"
    folder.mkdir(exist_ok=True)
    return folder
