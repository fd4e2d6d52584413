from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.trainer.tiny_trainings import cycle_config, noise, noise_domains, record_batches, train_run
from trainer.config import CycleConfig
from trainer.data.datasets import to_unit_range
from trainer.data.unpaired import UnpairedData
from trainer.progress import Progress
from trainer.runs.run_folder import ExportedRun, RunFolder, RunFolderError, load_generators
from trainer.training.base import Evaluation
from trainer.training.cyclegan import CycleTraining


def _run(
    config: CycleConfig, data: UnpairedData, out: Path, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, CycleTraining]:
    run = RunFolder.create(out, config)
    training = train_run(config, data, run, quiet, monkeypatch)
    assert isinstance(training, CycleTraining)
    return run.path, training


def _outputs(exported: list[ExportedRun]) -> list[Tensor]:
    images = to_unit_range(noise(3, 32, 9))
    with torch.inference_mode():
        return [one.network(images) for one in exported]


def test_a_run_exports_both_translators_named_after_the_domains(
    tmp_path: Path, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, training = _run(cycle_config(), noise_domains(paired=False), tmp_path, quiet, monkeypatch)
    exported = load_generators(path, "last")
    assert [one.name for one in exported] == ["cyclegan-ink2chalk", "cyclegan-chalk2ink"]
    assert [one.suffix for one in exported] == ["-ink2chalk", "-chalk2ink"]
    for one in exported:
        assert (one.latent_dim, one.channels, one.size) == (0, 1, (32, 32))
        assert one.training["step"] == 4
        assert not one.network.training
    images = to_unit_range(noise(3, 32, 9))
    state = training.state
    with torch.inference_mode():
        expected = [state.generator_ab(images), state.generator_ba(images)]
    for made, wanted in zip(_outputs(exported), expected, strict=True):
        torch.testing.assert_close(made, wanted)
    assert not torch.allclose(*expected)


def test_the_networks_of_every_second_epoch_are_kept(
    tmp_path: Path, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The longest domain has 8 images: two batches are an epoch. A constant rate, for it must not depend on the length.
    data = noise_domains(paired=False)
    length = {"steps": None, "keep_epochs": 2, "constant_lr_share": 1.0}
    torch.manual_seed(1)
    path, _ = _run(cycle_config(epochs=5, **length), data, tmp_path / "long", quiet, monkeypatch)
    short, _ = _run(cycle_config(epochs=2, **length), data, tmp_path / "short", quiet, monkeypatch)
    kept = {file.name for file in (path / "checkpoints").iterdir()} - {"best.safetensors", "last.safetensors"}
    assert kept == {"epoch-0002.safetensors", "epoch-0004.safetensors"}
    second = load_generators(path, "epoch-0002")
    assert [one.training["step"] for one in second] == [4, 4]
    expected, last = load_generators(short, "last"), load_generators(path, "last")
    assert all(torch.equal(one, two) for one, two in zip(_outputs(second), _outputs(expected), strict=True))
    assert not any(torch.equal(one, two) for one, two in zip(_outputs(second), _outputs(last), strict=True))
    networks = {"generator_ab", "generator_ba", "discriminator_a", "discriminator_b"}
    assert {name.partition(".")[0] for name in load_file(path / "checkpoints" / "epoch-0002.safetensors")} == networks
    with pytest.raises(RunFolderError, match="epoch-0003"):
        load_generators(path, "epoch-0003")


def _scores(monkeypatch: pytest.MonkeyPatch, scores: list[float | None]) -> list[int]:
    """Makes evaluations give these scores; returns the steps of those that were made."""
    left, steps = iter(scores), []

    def evaluate(training: CycleTraining) -> Evaluation:
        steps.append(training.state.step)
        return Evaluation(next(left), {}, {}, "")

    monkeypatch.setattr(CycleTraining, "evaluate", evaluate)
    return steps


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([0.5, 0.2, 0.3], 4),
        ([0.1, 0.2, 0.3], 2),
        ([0.5, 0.4, 0.3], 6),
        ([None, None, None], 6),  # nothing can be told, so what has trained for longest
    ],
)
def test_the_best_checkpoint_has_the_smallest_error(
    scores: list[float | None], best: int, tmp_path: Path, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = _scores(monkeypatch, scores)
    config = cycle_config(steps=6, evaluate_every_steps=1)
    path, _ = _run(config, noise_domains(paired=None not in scores), tmp_path, quiet, monkeypatch)
    assert steps == [2, 4, 6]
    assert [one.training["step"] for one in load_generators(path, "best")] == [best, best]


@pytest.mark.parametrize(
    "length",
    [{"steps": 20}, {"steps": None, "epochs": 2}, {"steps": None, "images": 80}],
    ids=["steps", "epochs", "images"],
)
def test_the_learning_rate_falls_to_nearly_nothing_over_the_second_half_of_a_run(
    length: dict[str, int | None],
    tmp_path: Path,
    quiet: Progress,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = record_batches(monkeypatch)
    _run(cycle_config(**length), noise_domains((40, 12), paired=False), tmp_path, quiet, monkeypatch)
    factors = [factor for _, _, factor in shown]
    assert factors == pytest.approx([1.0] * 11 + [tenths / 10 for tenths in range(9, 0, -1)])
