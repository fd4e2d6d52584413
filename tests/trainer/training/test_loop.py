from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.trainer.conftest import StopAfter, made_up_images, run_training, small_config, tensors_of
from trainer import parallel
from trainer.config import CycleConfig
from trainer.errors import TrainingDivergedError, UserError
from trainer.presets import PRESETS
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolder, load_generators
from trainer.training.gan_step import GanState, StepResult, train_step
from trainer.training.loop import train


def first_preset(model: str) -> str:
    return next(name for owner, name in PRESETS if owner == model)


def printed(progress: Progress) -> str:
    return progress.console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("model", ["gan", "wgan-gp", "pggan", "cyclegan"])
def test_a_run_leaves_everything_the_contract_names(model: str, tmp_path: Path, quiet: Progress) -> None:
    config = small_config(model, first_preset(model))
    run, summary = run_training(config, tmp_path, quiet)
    assert (summary.step, summary.images_seen, summary.interrupted) == (4, 16, False)
    of_the_kind = {"cycle_curve"} if isinstance(config, CycleConfig) else set()
    of_the_kind |= {name.removesuffix(".png") for name in config.FIGURES if name != "growth.png" or config.growth}
    scores = "confidence_curve" if config.scores_are_probabilities else "score_curve"
    pictures = {f"{name}.png" for name in of_the_kind | {"loss_curve", scores}} | {"progress.gif"}
    assert {path.name for path in run.figures.iterdir()} == pictures
    with Image.open(max(run.samples.iterdir())) as grid:
        assert grid.convert("L").getextrema() != (0, 0)
    assert run.checkpoint_path("best").is_file()
    assert run.checkpoint_path("last").is_file()
    rows = list(run.metrics.read())
    steps = [row for row in rows if row["kind"] == "step"]
    assert [(row["step"], row["images"], row["epoch"]) for row in steps] == [
        (1, 4, 1),
        (2, 8, 1),
        (3, 12, 1),
        (4, 16, 1),
    ]
    assert any(row["kind"] == "evaluation" for row in rows)
    assert {"d_loss", "g_loss", "d_real", "d_fake", "images_per_s"} <= steps[0].keys()
    assert summary.best_score is not None


@pytest.mark.parametrize("model", ["gan", "pggan"])
def test_samples_are_a_grid_of_64_images_at_the_size_of_then(model: str, tmp_path: Path, quiet: Progress) -> None:
    run, _ = run_training(small_config(model, first_preset(model), steps=5), tmp_path, quiet)
    sizes = []
    for path in sorted(run.samples.iterdir()):
        with Image.open(path) as grid:
            sizes.append(grid.size[0])
            assert grid.size == (grid.size[0], grid.size[0])
    # A network that grows is sampled before it does so, too.
    assert sizes == [8 * (size + 2) + 2 for size in ([32] if model == "gan" else [4, 8, 16])]


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ("dcgan", ("D ", "G ", "D(x)", "D(G(z))")),
        ("pggan", ("8x8 10%", "D ", "G ", "D(x)", "D(G(z))")),
        ("cyclegan", ("D ", "G ", "cycle", "identity")),
    ],
)
def test_the_log_gives_losses_scores_speed_and_time_left(
    model: str, shown: tuple[str, ...], tmp_path: Path, quiet: Progress
) -> None:
    run_training(small_config(model, first_preset(model), log_every_steps=2, checkpoint_every_steps=1), tmp_path, quiet)
    lines = [line for line in printed(quiet).splitlines() if re.match(r"\[step \d/4\] ", line)]
    assert [line[:10] for line in lines] == ["[step 2/4]", "[step 4/4]"]
    line = lines[0]
    for part in ("[step 2/4]", *shown, "images/s", "left"):
        assert part in line


@pytest.mark.usefixtures("no_figures")
def test_the_same_seed_gives_the_same_run_and_another_seed_another(tmp_path: Path, quiet: Progress) -> None:
    config = small_config("wgan-gp", "wgan-gp-digits")
    first, _ = run_training(config, tmp_path, quiet)
    second, _ = run_training(config, tmp_path, quiet)
    other, _ = run_training(small_config("wgan-gp", "wgan-gp-digits", seed=1), tmp_path, quiet)
    key = "generator.1.weight"
    assert torch.equal(tensors_of(first)[key], tensors_of(second)[key])
    assert not torch.equal(tensors_of(first)[key], tensors_of(other)[key])


@pytest.mark.usefixtures("no_figures")
def test_a_data_set_of_65_trains_in_batches_of_64(tmp_path: Path, quiet: Progress) -> None:
    config = small_config("dcgan", "dcgan-digits", batch_size=64, steps=2)
    run = RunFolder.create(tmp_path, config)
    assert train(config, run, made_up_images(config, 65), quiet).step == 2


@pytest.mark.parametrize(
    ("model", "batch_size", "images"), [("dcgan", 19, 18), ("pggan", 19, 18), ("cyclegan", 18, 17)]
)
def test_a_batch_larger_than_the_data_set_is_refused(
    model: str, batch_size: int, images: int, tmp_path: Path, quiet: Progress
) -> None:
    config = small_config(model, first_preset(model), batch_size=batch_size)
    with pytest.raises(UserError, match=f"--batch-size {batch_size}: (domain B of )?made-up has only {images} images"):
        run_training(config, tmp_path, quiet)


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    ("length", "steps"),
    [({"epochs": 1}, 5), ({"epochs": 2}, 9), ({"images": 18}, 5), ({"images": 16}, 4), ({"images": 1}, 1)],
)
def test_the_length_may_be_given_in_passes_over_the_data_or_in_images(
    length: dict[str, int], steps: int, tmp_path: Path, quiet: Progress
) -> None:
    # 18 images in batches of 4: a batch may belong to two passes, and the last one goes past the end.
    config = small_config("gan", "mlp-fmnist", steps=None, **length)
    run, summary = run_training(config, tmp_path, quiet)
    assert (summary.step, summary.images_seen) == (steps, 4 * steps)
    rows = [row for row in run.metrics.read() if row["kind"] == "step"]
    assert [row["epoch"] for row in rows] == [1, 1, 1, 1, 2, 2, 2, 2, 2][:steps]


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(("interval", "steps"), [(500, [5, 9]), (3, [3, 5, 6, 9])])
def test_samples_are_drawn_at_the_end_of_every_pass_over_the_data_and_with_every_checkpoint(
    interval: int, steps: list[int], tmp_path: Path, quiet: Progress
) -> None:
    config = small_config("gan", "mlp-fmnist", epochs=2, steps=None, checkpoint_every_steps=interval)
    run, _ = run_training(config, tmp_path, quiet)
    assert sorted(path.name for path in run.samples.iterdir()) == [f"step-{step:08d}.png" for step in steps]


@pytest.mark.usefixtures("no_figures")
def test_the_score_of_a_checkpoint_is_its_own(tmp_path: Path, quiet: Progress, stop_after: StopAfter) -> None:
    config = small_config("dcgan", "dcgan-digits", steps=8, evaluate_every_steps=4)
    run = RunFolder.create(tmp_path, config)
    train(config, run, made_up_images(config), quiet, stop_requested=stop_after(6))
    assert "sliced_wasserstein_distance" not in load_generators(run.path, "last")[0].training
    assert "sliced_wasserstein_distance" in load_generators(run.path, "best")[0].training


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("when", ["at once", "after a checkpoint"])
def test_nan_stops_the_run_and_names_the_step_and_the_last_good_checkpoint(
    when: str, tmp_path: Path, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config("dcgan", "dcgan-digits", steps=8, log_every_steps=1)
    bad_step = 2 if when == "at once" else 6

    def poisoned(state: GanState, *args: object) -> StepResult:
        if state.step + 1 == bad_step:
            with torch.no_grad():
                next(state.generator.parameters()).fill_(float("nan"))
        return train_step(state, *args)  # type: ignore[arg-type]

    monkeypatch.setattr("trainer.training.gan.train_step", poisoned)
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

    def poisoned(state: GanState, *args: object) -> StepResult:
        result = train_step(state, *args)  # type: ignore[arg-type]
        if state.step == 4:
            with torch.no_grad():
                next(state.discriminator.parameters()).fill_(float("inf"))
        return result

    monkeypatch.setattr("trainer.training.gan.train_step", poisoned)
    run = RunFolder.create(tmp_path, config)
    with pytest.raises(TrainingDivergedError, match="step 4: a weight is NaN or infinite"):
        train(config, run, made_up_images(config), quiet)
    assert not run.checkpoint_path("last").exists()


def test_an_explicit_cuda_device_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="--device cuda"):
        parallel.choose_device("cuda")
    assert parallel.choose_device("auto").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert parallel.choose_device("auto").type == "cuda"
    assert parallel.choose_device("cpu").type == "cpu"
