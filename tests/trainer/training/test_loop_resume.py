"""What holds when a run is interrupted, killed, resumed or extended."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.trainer.conftest import StopAfter, made_up_images, run_training, small_config, tensors_of
from trainer.config import override
from trainer.errors import UserError
from trainer.presets import PRESETS
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolder, load_generators
from trainer.training.loop import train

pytestmark = pytest.mark.usefixtures("no_figures")

EVERY_KIND = [("dcgan", "dcgan-digits"), ("pggan", "pggan-small"), ("cyclegan", "cyclegan-digits")]


def assert_same_weights(one: Path, other: Path) -> None:
    expected, actual = load_file(one), load_file(other)
    assert expected.keys() == actual.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, actual[name]), (one.name, name)


def assert_same_checkpoints(one: RunFolder, other: RunFolder) -> None:
    """All of their kinds: last, best, and those of epochs."""
    paths = sorted(one.checkpoint_path("last").parent.iterdir())
    others = sorted(other.checkpoint_path("last").parent.iterdir())
    assert [path.name for path in paths] == [path.name for path in others]
    for path, same in zip(paths, others, strict=True):
        assert_same_weights(path, same)


def step_rows(run: RunFolder) -> list[dict[str, object]]:
    """The measurements of every step, without the speed."""
    return [row | {"images_per_s": None} for row in run.metrics.read() if row["kind"] == "step"]


@pytest.mark.parametrize(("model", "preset"), PRESETS)
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    model: str, preset: str, tmp_path: Path, quiet: Progress, stop_after: StopAfter
) -> None:
    # 18 images in batches of 4: the interruption falls inside an epoch, between critic and generator updates, into a
    # fade, and after a pool is full; a batch of two epochs, the end of a fade and a growth are to come.
    config = small_config(model, preset, steps=6)
    data = made_up_images(config)
    whole = RunFolder.create(tmp_path / "whole", config)
    train(config, whole, data, quiet)
    parts = RunFolder.create(tmp_path / "parts", config)
    summary = train(config, parts, data, quiet, stop_requested=stop_after(3))
    assert summary.interrupted
    assert summary.step == 3
    torch.manual_seed(999)  # a new process would not have our random state
    assert train(config, parts, data, quiet, resume=True).step == 6
    assert_same_checkpoints(whole, parts)
    assert step_rows(whole) == step_rows(parts)
    assert {path.name for path in whole.samples.iterdir()} <= {path.name for path in parts.samples.iterdir()}


@pytest.mark.parametrize("stop", [1, 2, 3, 4])  # of 3 critic steps: after one, after two, as the generator has moved
@pytest.mark.parametrize(
    ("model", "preset"), [("wgan", "wgan-paper"), ("wgan-gp", "wgan-gp-paper"), ("wgan-div", "wgan-div-paper")]
)
def test_a_critic_may_be_interrupted_in_any_phase(
    model: str, preset: str, stop: int, tmp_path: Path, quiet: Progress, stop_after: StopAfter
) -> None:
    config = small_config(model, preset, steps=7, n_critic=3, warm_start=False)
    data = made_up_images(config)
    whole, _ = run_training(config, tmp_path / "whole", quiet)
    parts = RunFolder.create(tmp_path / "parts", config)
    train(config, parts, data, quiet, stop_requested=stop_after(stop))
    assert parts.read_metadata().counters["critic_steps_since_generator"] == stop % 3
    assert parts.read_metadata().counters["generator_steps"] == stop // 3
    torch.manual_seed(999)
    train(config, parts, data, quiet, resume=True)
    assert_same_checkpoints(whole, parts)
    assert step_rows(whole) == step_rows(parts)


@pytest.mark.parametrize(("model", "preset"), EVERY_KIND)
def test_a_run_in_bf16_resumes_bit_for_bit(
    model: str, preset: str, tmp_path: Path, quiet: Progress, stop_after: StopAfter
) -> None:
    config = small_config(model, preset, steps=6, precision="bf16")
    whole, _ = run_training(config, tmp_path / "whole", quiet)
    exact, _ = run_training(override(config, {"precision": "fp32"}), tmp_path / "exact", quiet)
    assert step_rows(whole) != step_rows(exact)  # so that bf16 was at work
    parts = RunFolder.create(tmp_path / "parts", config)
    train(config, parts, made_up_images(config), quiet, stop_requested=stop_after(3))
    torch.manual_seed(999)
    train(config, parts, made_up_images(config), quiet, resume=True)
    assert_same_checkpoints(whole, parts)
    assert step_rows(whole) == step_rows(parts)


@pytest.mark.parametrize("stop", [1, 2, 4, 5, 7])  # before, in and after a fade; when it has alpha 0; at the final size
def test_a_growing_run_may_be_interrupted_anywhere(
    stop: int, tmp_path: Path, quiet: Progress, stop_after: StopAfter
) -> None:
    # Batches of 4, and of 2 at 8x8.
    config = small_config("pggan", "pggan-small", steps=8, **{"growth.batch_sizes": {8: 2}, "growth.fade_images": 4})
    whole, _ = run_training(config, tmp_path / "whole", quiet)
    sizes = [(row["resolution"], row["alpha"]) for row in whole.metrics.read() if row["kind"] == "step"]
    assert sizes[:5] == [(4, 1), (8, 0.25), (8, 0.75), (8, 1), (16, 0)]
    assert sizes[-1] == (16, 1)
    parts = RunFolder.create(tmp_path / "parts", config)
    train(config, parts, made_up_images(config), quiet, stop_requested=stop_after(stop))
    torch.manual_seed(999)
    train(config, parts, made_up_images(config), quiet, resume=True)
    assert_same_checkpoints(whole, parts)
    assert step_rows(whole) == step_rows(parts)


def test_a_pool_is_full_when_the_run_of_a_translator_is_interrupted_here(
    tmp_path: Path, quiet: Progress, stop_after: StopAfter
) -> None:
    config = small_config("cyclegan", "cyclegan-digits", steps=6)
    run = RunFolder.create(tmp_path, config)
    train(config, run, made_up_images(config), quiet, stop_requested=stop_after(3))
    assert len(tensors_of(run)["pool_a.images"]) == len(tensors_of(run)["pool_b.images"]) == 6


@pytest.mark.parametrize(("model", "preset"), EVERY_KIND)
def test_a_run_killed_after_its_checkpoint_resumes_from_it(
    model: str, preset: str, tmp_path: Path, quiet: Progress
) -> None:
    config = small_config(model, preset, steps=8)
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
    assert b'"step":5' in killed.checkpoint_path("last").read_bytes().replace(b"\\", b"")
    train(config, killed, made_up_images(config), quiet, resume=True)
    assert_same_checkpoints(whole, killed)
    assert step_rows(whole) == step_rows(killed)


@pytest.mark.parametrize(("model", "preset"), EVERY_KIND)
def test_a_run_killed_before_its_first_checkpoint_begins_again(
    model: str, preset: str, tmp_path: Path, quiet: Progress
) -> None:
    config = small_config(model, preset)
    whole, _ = run_training(config, tmp_path / "whole", quiet)
    killed = RunFolder.create(tmp_path / "killed", config)
    killed.metrics.append([{"kind": "step", "step": 1}])
    train(config, killed, made_up_images(config), quiet, resume=True)
    assert_same_checkpoints(whole, killed)
    assert step_rows(whole) == step_rows(killed)


@pytest.mark.parametrize(("model", "preset"), EVERY_KIND)
def test_an_interruption_does_not_change_which_checkpoint_is_best(
    model: str, preset: str, tmp_path: Path, quiet: Progress, stop_after: StopAfter
) -> None:
    config = small_config(model, preset, steps=14, evaluate_every_steps=4, generator_lr=2e-2)
    data = made_up_images(config)
    whole, summary = run_training(config, tmp_path / "whole", quiet)
    parts = RunFolder.create(tmp_path / "parts", config)
    train(config, parts, data, quiet, stop_requested=stop_after(6))
    again = train(config, parts, data, quiet, resume=True)
    assert again.best_score == summary.best_score
    assert_same_weights(whole.checkpoint_path("best"), parts.checkpoint_path("best"))


@pytest.mark.parametrize(
    ("model", "preset", "now", "then"), [(*EVERY_KIND[0], 19, 18), (*EVERY_KIND[1], 19, 18), (*EVERY_KIND[2], 37, 35)]
)
def test_a_run_does_not_go_on_with_other_images(
    model: str, preset: str, now: int, then: int, tmp_path: Path, quiet: Progress
) -> None:
    config = small_config(model, preset)
    run, _ = run_training(config, tmp_path, quiet)
    other = made_up_images(config, 19)
    with pytest.raises(
        UserError, match=rf"--resume: the images of .* have changed since this run began \({now} now, {then} then\)"
    ):
        train(override(config, {"steps": 8}), run, other, quiet, resume=True)
    assert run.read_config() == config


@pytest.mark.parametrize(
    ("length", "shorter", "finished"),
    [
        ({"steps": 4}, {"steps": 2}, "step 4, image 16"),
        ({"steps": None, "images": 18}, {"images": 16}, "step 5, image 20"),
        ({"steps": None, "epochs": 2}, {"epochs": 1}, "step 9, image 36"),
    ],
)
def test_a_run_cannot_be_resumed_to_less_than_it_has_seen(
    length: dict[str, object], shorter: dict[str, object], finished: str, tmp_path: Path, quiet: Progress
) -> None:
    config = small_config("dcgan", "dcgan-digits", **length)
    run, _ = run_training(config, tmp_path, quiet)
    with pytest.raises(UserError, match=f"this run is at {finished} already"):
        train(override(config, shorter), run, made_up_images(config), quiet, resume=True)
    assert run.read_config() == config


@pytest.mark.parametrize(
    ("length", "longer", "steps"),
    [
        ({"steps": 4}, {"steps": 8}, 8),
        ({"steps": None, "epochs": 1}, {"epochs": 2}, 9),
        ({"steps": None, "images": 18}, {"images": 30}, 8),
        ({"steps": 4}, {"steps": None, "images": 30}, 8),
    ],
)
@pytest.mark.parametrize(("model", "preset"), EVERY_KIND[:2])  # a translator's learning rate depends on the length
def test_a_finished_run_can_be_extended(
    model: str,
    preset: str,
    length: dict[str, object],
    longer: dict[str, object],
    steps: int,
    tmp_path: Path,
    quiet: Progress,
) -> None:
    config = small_config(model, preset, **length)
    run, _ = run_training(config, tmp_path, quiet)
    extended = override(config, longer)
    assert train(extended, run, made_up_images(config), quiet, resume=True).step == steps
    whole, _ = run_training(extended, tmp_path / "whole", quiet)
    assert_same_weights(whole.checkpoint_path("last"), run.checkpoint_path("last"))


@pytest.mark.parametrize("length", [{"steps": 4}, {"steps": None, "epochs": 1}, {"steps": None, "images": 18}])
@pytest.mark.parametrize(("model", "preset"), EVERY_KIND)
def test_resuming_a_finished_run_changes_no_weight(
    model: str, preset: str, length: dict[str, object], tmp_path: Path, quiet: Progress
) -> None:
    config = small_config(model, preset, **length)
    run, summary = run_training(config, tmp_path, quiet)
    before = run.checkpoint_path("last").read_bytes()
    assert train(config, run, made_up_images(config), quiet, resume=True).step == summary.step
    assert run.checkpoint_path("last").read_bytes() == before


@pytest.mark.parametrize("model", ["dcgan", "cyclegan"])
def test_a_run_interrupted_at_what_becomes_its_last_step_can_be_exported(
    model: str, tmp_path: Path, quiet: Progress, stop_after: StopAfter
) -> None:
    config = small_config(model, next(preset for owner, preset in PRESETS if owner == model), steps=9)
    run, data = RunFolder.create(tmp_path, config), made_up_images(config)
    train(config, run, data, quiet, stop_requested=stop_after(2))
    assert not run.checkpoint_path("best").exists()
    train(override(config, {"steps": 2}), run, data, quiet, resume=True)
    assert load_generators(run.path, "best")[0].training["step"] == 2


def test_a_kill_before_the_checkpoint_loses_no_networks_of_an_epoch(
    tmp_path: Path, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config("cyclegan", "cyclegan-digits", steps=5)
    run, data = RunFolder.create(tmp_path, config), made_up_images(config)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config, run, data, quiet)
    assert run.checkpoint_path("epoch-0001").is_file()
