"""Two tiny runs on digits, and a claim about them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.claims import collect
from benchmarks.claims.claims import CLAIMS, Claim
from benchmarks.claims.evidence import Evidence
from benchmarks.claims.statistics import Effect, difference
from benchmarks.claims.subjects import SUBJECTS, Subject
from tests.trainer.conftest import _torch_as_it_was, quiet, stop_after
from trainer.metrics.classifier import Classifier, FeatureMetadata, FeatureNetwork
from trainer.progress import Progress
from trainer.training.gan import GanTraining

__all__ = ["_torch_as_it_was", "quiet", "stop_after"]

EPOCHS = (1, 3)
STEPS = {1: 2, 3: 6}  # epochs of 32 images in batches of 16


def _analyse(evidence: Evidence) -> list[Effect]:
    names = ("frechet_distance", "laplacian_ratio", "latent_change")
    return [
        difference(name, evidence.metric("tiny-a", name, 3), evidence.metric("tiny-b", name, 3), "above")
        for name in names
    ]


def _untrained(images: Tensor, labels: Tensor | None, _device: torch.device, _progress: Progress) -> FeatureNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Classifier(images.shape[1], 10).eval().requires_grad_(False)
    metadata = FeatureMetadata(
        task="rotations" if labels is None else "labels",
        classes=10,
        channels=images.shape[1],
        image_size=32,
        accuracy=0.1,
        data_sha256="0" * 64,
        weights_sha256="1" * 64,
    )
    return FeatureNetwork(network, metadata)


@pytest.fixture
def tiny_claim(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Claim:
    """C99, see `add_tiny_claim`."""
    return add_tiny_claim(monkeypatch, tmp_path)


def add_tiny_claim(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Claim:
    """C99: two runs of six steps each, with snapshots after two and six; nothing is drawn."""
    settings = {"network.width": 1 / 32, "network.image_size": 8, "network.latent_dim": 4, "batch_size": 16}
    for name, rate in (("tiny-a", 1e-3), ("tiny-b", 1e-4)):
        subject = Subject(
            name,
            name,
            "gan",
            "gan-digits",
            "digits",
            EPOCHS,
            32,
            settings | {"generator_lr": rate},
            quick_snapshots=EPOCHS,
        )
        monkeypatch.setitem(SUBJECTS, name, subject)
    claim = Claim(
        "C99",
        "A is better than B.",
        "nobody",
        ("tiny-a", "tiny-b"),
        ("features", "latents", "pixels"),
        _analyse,
        "Three metrics.",
        "Nothing.",
        curves=("tiny-a",),
    )
    monkeypatch.setitem(CLAIMS, "C99", claim)
    monkeypatch.setattr(collect, "feature_network", _untrained)
    monkeypatch.setitem(collect.SAMPLES, "quick", 32)
    monkeypatch.setattr(GanTraining, "draw_figures", lambda *_: None)
    monkeypatch.setenv("GANSERVE_CACHE", str(tmp_path / "cache"))
    return claim
