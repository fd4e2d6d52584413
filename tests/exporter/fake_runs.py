"""Fake runs of the trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from tests.exporter.generators import LATENT_DIM, FlatGenerator
from trainer.runs.run_folder import ExportedRun


def make_exported_run(**changes: Any) -> ExportedRun:
    facts: dict[str, Any] = {
        "network": FlatGenerator(),
        "name": "dcgan",
        "suffix": "",
        "model": "dcgan",
        "preset": "dcgan-digits",
        "architecture": "dcgan",
        "dataset": "digits",
        "latent_dim": LATENT_DIM,
        "channels": 1,
        "size": (4, 4),
        "training": {"step": 7},
    }
    return ExportedRun(**(facts | changes))


def make_translation_run(*translators: nn.Module) -> list[ExportedRun]:
    """Both directions of an image-to-image run."""
    return [
        make_exported_run(
            network=translator,
            name=f"cyclegan{suffix}",
            suffix=suffix,
            model="cyclegan",
            latent_dim=0,
            channels=3,
            size=(8, 8),
        )
        for suffix, translator in zip(("-a2b", "-b2a"), translators, strict=True)
    ]


def replace_runs(monkeypatch: pytest.MonkeyPatch, exported_runs: list[ExportedRun]) -> list[tuple[Path, str]]:
    """Makes every folder a run of these networks; returns the list of later requests."""
    asked: list[tuple[Path, str]] = []

    def load_generators(run: Path, which: str) -> list[ExportedRun]:
        asked.append((run, which))
        return exported_runs

    monkeypatch.setattr("trainer.runs.run_folder.load_generators", load_generators)
    monkeypatch.setattr("trainer.runs.config_file.check_is_run", lambda _: None)
    return asked
