from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from benchmarks import few_images
from trainer.data.datasets import LABELLED, ImageData
from trainer.metrics import classifier
from trainer.training.gan import GanTraining


def test_a_subset_holds_different_images_of_the_data_set_and_depends_on_the_seed() -> None:
    data = ImageData("digits", torch.arange(50, dtype=torch.uint8).reshape(50, 1, 1, 1))
    assert few_images.subset(data, 20, 0).name not in LABELLED
    first, again, other = (few_images.subset(data, 20, seed).images.flatten().tolist() for seed in (0, 0, 1))
    assert first == again != other
    assert len(set(first)) == 20


def test_images_are_trained_without_and_with_augmentation_and_scored_against_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier, "_MOST_SHOWN", 512)
    monkeypatch.setattr(GanTraining, "draw_figures", lambda *_: None)
    out = tmp_path / "out.json"
    arguments = ["--counts", "64", "--steps", "1", "--seeds", "2", "--eval-images", "32", "--out", str(out)]
    result = CliRunner().invoke(few_images.main, [*arguments, "--augment", "cutout"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    rows = json.loads(out.read_text())["rows"]
    assert [(row["images"], row["augment"]) for row in rows] == [(64, "none"), (64, "cutout")]
    assert all(row["FD"] > 0 and 0 <= row["recall"] <= 1 for row in rows)


def test_an_unknown_data_set_is_one_line() -> None:
    result = CliRunner().invoke(few_images.main, ["--dataset", "nonsense"])
    assert result.exit_code == 1
    assert "--dataset 'nonsense'" in result.output
