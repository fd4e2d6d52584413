from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.trainer.conftest import made_up_images, small_config
from trainer import loop
from trainer.checkpoint import RunFolder, load_generator
from trainer.config import TrainConfig, override
from trainer.errors import TrainingDivergedError, UserError
from trainer.loop import Summary, train
from trainer.presets import MODELS, PRESETS
from trainer.progress import Progress
from trainer.step import StepResult, TrainingState, train_step

StopAfter = Callable[[int], Callable[[], bool]]


def run_training(config: TrainConfig, out: Path, progress: Progress) -> tuple[RunFolder, Summary]:
    run = RunFolder.create(out, config)
    return run, train(config, run, made_up_images(config), progress)


def tensors_of(run: RunFolder) -> dict[str, torch.Tensor]:
    return load_file(run.checkpoint_path("last"))


def printed(progress: Progress) -> str:
    return progress.console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("model", MODELS)
def test_a_run_leaves_everything_the_contract_names(model: str, tmp_path: Path, quiet: Progress) -> None:
    config = small_config(model, next(name for owner, name in PRESETS if owner == model))
    run, summary = run_training(config, tmp_path, quiet)
    assert summary.step == summary.total_steps == 4
    assert {path.name for path in run.figures.iterdir()} == {
        "loss_curve.png",
        "confidence_curve.png",
        "real_beside_fake.png",
        "progress.gif",
    }
    with Image.open(max(run.samples.iterdir())) as grid:
        assert grid.size == (8 * 34 + 2, 8 * 34 + 2)
    assert run.checkpoint_path("best").is_file()
    assert run.checkpoint_path("last").is_file()
    rows = list(run.read_metrics())
    assert [row["step"] for row in rows if row["kind"] == "step"] == [1, 2, 3, 4]
    assert any(row["kind"] == "evaluation" for row in rows)
    assert {"d_loss", "g_loss", "d_real", "d_fake", "images_per_s"} <= rows[0].keys()
    assert summary.best_score is not None


def test_the_log_gives_losses_scores_speed_and_time_left(tmp_path: Path, quiet: Progress) -> None:
    run_training(small_config("dcgan", "dcgan-digits", log_every_steps=2), tmp_path, quiet)
    line = printed(quiet).splitlines()[0]
    for part in ("[epoch 1][step 2/4]", "D loss", "G loss", "D(x)", "D(G(z))", "images/s", "left"):
        assert part in line


@pytest.mark.parametrize(("model", "preset"), PRESETS)
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    model: str, preset: str, tmp_path: Path, quiet: Progress, stop_after: StopAfter, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 18 images in batches of 4: the interruption falls inside an epoch, and between critic and generator updates.
    config = small_config(model, preset, steps=6, checkpoint_every_steps=1)
    data = made_up_images(config)
    monkeypatch.setattr(loop, "draw_figures", lambda *_: None)  # slow, and not what this test is about
    whole = RunFolder.create(tmp_path / "whole", config)
    train(config, whole, data, quiet)
    parts = RunFolder.create(tmp_path / "parts", config)
    summary = train(config, parts, data, quiet, stop_requested=stop_after(3))
    assert summary.interrupted
    assert summary.step == 3
    torch.manual_seed(999)  # a new process would not have our random state
    train(config, parts, data, quiet, resume=True)
    expected, actual = tensors_of(whole), tensors_of(parts)
    assert expected.keys() == actual.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, actual[name]), name

    def steps(run: RunFolder) -> list[tuple[object, ...]]:
        return [(row["step"], row["d_loss"], row["g_loss"]) for row in run.read_metrics() if row["kind"] == "step"]

    assert steps(whole) == steps(parts)
    assert whole.checkpoint_path("best").read_bytes()[-4096:] == parts.checkpoint_path("best").read_bytes()[-4096:]
    assert {path.name for path in whole.samples.iterdir()} <= {path.name for path in parts.samples.iterdir()}


def test_a_run_killed_after_its_checkpoint_resumes_from_it(tmp_path: Path, quiet: Progress) -> None:
    config = small_config("dcgan", "dcgan-digits", steps=8)
    whole, _ = run_training(config, tmp_path / "whole", quiet)
    killed = RunFolder.create(tmp_path / "killed", config)

    class Kill(BaseException):
        pass

    calls = iter(range(100))

    def kill_at_the_sixth_step() -> bool:
        if next(calls) == 5:
            raise Kill
        return False

    with pytest.raises(Kill):
        train(config, killed, made_up_images(config), quiet, stop_requested=kill_at_the_sixth_step)
    train(config, killed, made_up_images(config), quiet, resume=True)
    for name, tensor in tensors_of(whole).items():
        assert torch.equal(tensor, tensors_of(killed)[name]), name


def test_a_run_killed_before_its_first_checkpoint_begins_again(tmp_path: Path, quiet: Progress) -> None:
    config = small_config("dcgan", "dcgan-digits")
    whole, _ = run_training(config, tmp_path / "whole", quiet)
    killed = RunFolder.create(tmp_path / "killed", config)
    killed.append_metrics([{"kind": "step", "step": 1}])
    train(config, killed, made_up_images(config), quiet, resume=True)
    for name, tensor in tensors_of(whole).items():
        assert torch.equal(tensor, tensors_of(killed)[name]), name


def test_an_interruption_does_not_change_which_checkpoint_is_best(
    tmp_path: Path, quiet: Progress, stop_after: StopAfter
) -> None:
    config = small_config("dcgan", "dcgan-digits", steps=24, evaluate_every_steps=4, generator_lr=2e-2)
    data = made_up_images(config)
    whole, summary = run_training(config, tmp_path / "whole", quiet)
    parts = RunFolder.create(tmp_path / "parts", config)
    train(config, parts, data, quiet, stop_requested=stop_after(6))
    again = train(config, parts, data, quiet, resume=True)
    assert again.best_score == summary.best_score
    best, other = (load_file(run.checkpoint_path("best")) for run in (whole, parts))
    assert all(torch.equal(tensor, other[name]) for name, tensor in best.items())


def test_the_score_of_a_checkpoint_is_its_own(tmp_path: Path, quiet: Progress, stop_after: StopAfter) -> None:
    config = small_config("dcgan", "dcgan-digits", steps=8, evaluate_every_steps=4)
    run = RunFolder.create(tmp_path, config)
    train(config, run, made_up_images(config), quiet, stop_requested=stop_after(6))
    assert load_generator(run.path, "last").training["sliced_wasserstein_distance"] is None
    assert load_generator(run.path, "best").training["sliced_wasserstein_distance"] is not None


def test_a_run_does_not_go_on_with_other_images(tmp_path: Path, quiet: Progress) -> None:
    config = small_config("dcgan", "dcgan-digits")
    run, _ = run_training(config, tmp_path, quiet)
    other = made_up_images(config, 19)
    with pytest.raises(UserError, match=r"--resume: .*other images than this run began with \(19 now, 18 then\)"):
        train(override(config, {"steps": 8}), run, other, quiet, resume=True)
    assert run.read_config() == config


def test_a_run_cannot_be_resumed_to_fewer_steps(tmp_path: Path, quiet: Progress) -> None:
    config = small_config("dcgan", "dcgan-digits")
    run, _ = run_training(config, tmp_path, quiet)
    with pytest.raises(UserError, match="this run is at step 4 already"):
        train(override(config, {"steps": 2}), run, made_up_images(config), quiet, resume=True)
    assert run.read_config() == config


def test_a_finished_run_can_be_extended(tmp_path: Path, quiet: Progress) -> None:
    config = small_config("dcgan", "dcgan-digits", steps=4)
    run, _ = run_training(config, tmp_path, quiet)
    longer = override(config, {"steps": 8})
    assert train(longer, run, made_up_images(config), quiet, resume=True).step == 8
    whole, _ = run_training(longer, tmp_path / "whole", quiet)
    for name, tensor in tensors_of(whole).items():
        assert torch.equal(tensor, tensors_of(run)[name]), name


def test_resuming_a_finished_run_changes_no_weight(tmp_path: Path, quiet: Progress) -> None:
    config = small_config("dcgan", "dcgan-digits")
    run, _ = run_training(config, tmp_path, quiet)
    before = run.checkpoint_path("last").read_bytes()
    assert train(config, run, made_up_images(config), quiet, resume=True).step == 4
    assert run.checkpoint_path("last").read_bytes() == before


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tmp_path: Path, quiet: Progress) -> None:
    config = small_config("wgan-gp", "wgan-gp-digits")
    first, _ = run_training(config, tmp_path, quiet)
    second, _ = run_training(config, tmp_path, quiet)
    other, _ = run_training(override(config, {"seed": 1}), tmp_path, quiet)
    key = "generator.1.weight"
    assert torch.equal(tensors_of(first)[key], tensors_of(second)[key])
    assert not torch.equal(tensors_of(first)[key], tensors_of(other)[key])


def test_a_data_set_of_65_trains_in_batches_of_64(tmp_path: Path, quiet: Progress) -> None:
    config = small_config("dcgan", "dcgan-digits", batch_size=64, steps=2)
    run = RunFolder.create(tmp_path, config)
    assert train(config, run, made_up_images(config, 65), quiet).step == 2


def test_a_batch_larger_than_the_data_set_is_refused(tmp_path: Path, quiet: Progress) -> None:
    config = small_config("dcgan", "dcgan-digits", batch_size=19)
    with pytest.raises(UserError, match="--batch-size 19: made-up has only 18 images"):
        run_training(config, tmp_path, quiet)


def test_epochs_are_passes_over_the_data(tmp_path: Path, quiet: Progress) -> None:
    config = small_config("gan", "mlp-fmnist", epochs=2, steps=None)
    run, summary = run_training(config, tmp_path, quiet)
    assert summary.total_steps == 2 * (18 // 4)
    assert len(list(run.samples.iterdir())) == 2


@pytest.mark.parametrize("when", ["at once", "after a checkpoint"])
def test_nan_stops_the_run_and_names_the_step_and_the_last_good_checkpoint(
    when: str, tmp_path: Path, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config("dcgan", "dcgan-digits", steps=8, log_every_steps=1)
    bad_step = 2 if when == "at once" else 6

    def poisoned(state: TrainingState, *args: object) -> StepResult:
        if state.step + 1 == bad_step:
            with torch.no_grad():
                next(state.generator.parameters()).fill_(float("nan"))
        return train_step(state, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "train_step", poisoned)
    run = RunFolder.create(tmp_path, config)
    with pytest.raises(TrainingDivergedError) as caught:
        train(config, run, made_up_images(config), quiet)
    assert f"step {bad_step}: a loss is NaN or infinite" in str(caught.value)
    if when == "at once":
        assert "there is no checkpoint yet" in str(caught.value)
        return
    assert str(run.checkpoint_path("last")) in str(caught.value)
    assert all(torch.isfinite(tensor.float()).all() for tensor in tensors_of(run).values())


def test_nan_in_a_weight_is_never_saved(tmp_path: Path, quiet: Progress, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config("dcgan", "dcgan-digits", steps=4)

    def poisoned(state: TrainingState, *args: object) -> StepResult:
        result = train_step(state, *args)  # type: ignore[arg-type]
        if state.step == 4:
            with torch.no_grad():
                next(state.discriminator.parameters()).fill_(float("inf"))
        return result

    monkeypatch.setattr(loop, "train_step", poisoned)
    run = RunFolder.create(tmp_path, config)
    with pytest.raises(TrainingDivergedError, match="step 4: a weight is NaN or infinite"):
        train(config, run, made_up_images(config), quiet)
    assert not run.checkpoint_path("last").exists()


def test_an_explicit_cuda_device_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="--device cuda"):
        loop.choose_device("cuda")
    assert loop.choose_device("auto").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert loop.choose_device("auto").type == "cuda"
    assert loop.choose_device("cpu").type == "cpu"
