from __future__ import annotations

import pytest

from benchmarks.scaling.costs import ModelCosts, ThreadCosts


@pytest.fixture
def costs() -> ModelCosts:
    """A model like dcgan64, with round figures."""
    return ModelCosts(
        model="m",
        cores=2,
        engines=2,
        batch_s=0.0,
        row_s=0.001,
        wide_s=0.0006,
        beside_factor=1.05,
        inline_rows=0,
        min_share_rows=1,
        wide_rows=1,
        quick_rows=1,
        loop=ThreadCosts(0.0001, 0.00005, 0.00001),
        network=ThreadCosts(0.00005, 0.00001),
        client=ThreadCosts(0.00004, 0.00001),
        answer_bytes=50_000,
    )
