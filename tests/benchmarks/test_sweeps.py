"""benchmarks/sweeps/: every spec is valid."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.presets import MODELS
from trainer.sweep.grid import cells_of
from trainer.sweep.spec import read_spec

FOLDER = Path(__file__).parents[2] / "benchmarks" / "sweeps"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_spec_has_cells_and_at_least_three_seeds(path: Path) -> None:
    spec = read_spec(path)
    assert cells_of(spec)
    assert len(spec.seeds) >= 3


@pytest.mark.parametrize("name", ["seven-models-digits", "seven-models-mnist"])
def test_all_models_are_compared_at_one_image_size(name: str) -> None:
    cells = cells_of(read_spec(FOLDER / f"{name}.toml"))
    assert {cell.config.model for cell in cells} == set(MODELS)
    assert {cell.config.network.image_size for cell in cells} == {32}
