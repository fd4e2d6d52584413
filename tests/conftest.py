"""Settings and fixtures for all tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# One thread per worker: with several workers, torch's threads slow each other down. Set before torch is imported, and
# inherited by the processes that tests start: float sums depend on the number of threads, and tests compare models
# trained by two processes.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # also for tests that import onnxruntime before ganserve

# Tests run in parallel, so the duration of an example means nothing.
settings.register_profile("ganserve", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ganserve")


@pytest.fixture(autouse=True, scope="session")
def _no_user_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps tests from reading or writing the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        if not os.environ.get("GANSERVE_CACHE"):
            patch.setenv("GANSERVE_CACHE", str(_cache_folder(tmp_path_factory)))
        yield


@pytest.fixture(autouse=True)
def _one_torch_thread() -> Iterator[None]:
    """Restores one torch thread after each test: a TorchScript engine changes the number for its calling thread."""
    yield
    torch = sys.modules.get("torch")  # not imported for tests that do not use it
    if torch is not None:
        torch.set_num_threads(1)


def _cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"  # one for all workers
    folder.mkdir(exist_ok=True)
    return folder
