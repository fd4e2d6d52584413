"""The metric that chooses the best checkpoint, whether smaller or larger is better."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.trainer.conftest import StopAfter, made_up_images, small_config, tensors_of
from tests.trainer.tiny_trainings import cycle_config, noise_domains
from trainer.config import AnyConfig
from trainer.errors import UserError
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolder, load_generators
from trainer.training.base import Evaluation
from trainer.training.cyclegan import CycleTraining
from trainer.training.gan import GanTraining
from trainer.training.loop import train

CPU = torch.device("cpu")
SCORES = (0.3, 0.8, 0.5, 0.1)  # at the ends of epochs, every 5 steps


def config_by(best_by: str, **settings: object) -> AnyConfig:
    return small_config("gan", "gan-digits", best_by=best_by, evaluate_every_steps=1, **settings)


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(("larger_is_better", "best", "epoch"), [(True, 0.8, 2), (False, 0.1, 4)])
def test_the_best_checkpoint_is_the_one_with_the_best_score(
    larger_is_better: bool, best: float, epoch: int, tmp_path: Path, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores: Iterator[float] = iter(SCORES)

    def evaluate(_training: GanTraining) -> Evaluation:
        score = next(scores)
        return Evaluation(score, {"coverage": score}, {}, "", larger_is_better)

    monkeypatch.setattr(GanTraining, "evaluate", evaluate)
    config = config_by("coverage", steps=None, epochs=len(SCORES))
    run = RunFolder.create(tmp_path, config)
    summary = train(config, run, made_up_images(config), quiet)
    assert summary.best_score == run.read_metadata("best").best_score == best
    assert run.read_metadata("best").images_seen // 18 == epoch


@pytest.mark.usefixtures("no_figures")
def test_a_run_that_chooses_by_a_feature_metric_resumes_exactly(
    tmp_path: Path, quiet: Progress, stop_after: StopAfter, classifier_cache: Path
) -> None:
    # The first evaluation trains the classifier, a resumed run finds it in the cache; neither may change the training.
    config = config_by("coverage", steps=10)
    straight, stopped = (RunFolder.create(tmp_path, config) for _ in range(2))
    train(config, straight, made_up_images(config), quiet)
    shutil.rmtree(classifier_cache)
    train(config, stopped, made_up_images(config), quiet, stop_requested=stop_after(7))
    train(config, stopped, made_up_images(config), quiet, resume=True)
    expected, found = tensors_of(straight), tensors_of(stopped)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    rows = [[row for row in run.metrics.read() if row["kind"] == "evaluation"] for run in (straight, stopped)]
    assert rows[0] == rows[1]
    assert "coverage" in load_generators(straight.path, "best")[0].training


@pytest.mark.parametrize(
    ("best_by", "larger_is_better"),
    [("", False), ("paired_l1", False), ("paired_ms_ssim", True), ("cycle_l1", False), ("identity_l1", False)],
)
def test_a_cyclegan_can_choose_by_each_of_its_metrics(best_by: str, larger_is_better: bool) -> None:
    training = CycleTraining(cycle_config(best_by=best_by), noise_domains(paired=True), CPU)
    evaluation = training.evaluate()
    assert evaluation.score == evaluation.metrics[best_by or "paired_l1"]
    assert evaluation.larger_is_better == larger_is_better


def test_a_paired_metric_is_refused_without_test_pairs() -> None:
    with pytest.raises(UserError, match=r"--best-by paired_l1: noise has no test pairs.*cycle_l1"):
        CycleTraining(cycle_config(best_by="paired_l1"), noise_domains(paired=False), CPU)
