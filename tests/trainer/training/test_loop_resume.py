"""What holds when a run is interrupted, killed, resumed or extended."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from tests.trainer.conftest import StopAfter, made_up_images, run_training, small_config, tensors_of
from trainer.config import AnyConfig, override, to_json
from trainer.errors import UserError
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolder, load_generators
from trainer.training.loop import train

pytestmark = pytest.mark.usefixtures("no_figures")

SMALLER: Final = {"network.image_size": 16, "network.latent_dim": 8, "network.width": 1 / 32}
# 18 images in batches of 4: step 5 spans two epochs, so a checkpoint follows it.
KINDS: Final = {
    "gan": small_config("dcgan", "dcgan-digits", steps=8, **SMALLER),
    "growing": small_config("pggan", "pggan-small", steps=8),
    "translator": small_config("cyclegan", "cyclegan-digits", steps=8, mirror=True, jitter=True),
}
# What else a checkpoint holds, or a step draws at random.
CONFIGS: Final = KINDS | {
    "dropout, generator first": small_config("gan", "mlp-mnist", steps=8, **{"network.latent_dim": 8}),
    "dropout of whole maps": small_config("dcgan", "dcgan-upsample32", steps=8, **{"network.width": 1 / 32}),
    "warm start of a clipped critic": small_config("wgan", "wgan-paper", steps=8, **SMALLER),
    "divergence between points": small_config("wgan-div", "wgan-div-digits", steps=8, **SMALLER),
}
CRITICS: Final = {
    "wgan": small_config("wgan", "wgan-paper", steps=7, n_critic=3, warm_start=False, **SMALLER),
    "wgan-gp": small_config("wgan-gp", "wgan-gp-paper", steps=7, n_critic=3, **SMALLER),
    "wgan-div": small_config("wgan-div", "wgan-div-paper", steps=7, n_critic=3, **SMALLER),
}

Uninterrupted = Callable[[AnyConfig], RunFolder]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Uninterrupted:
    """Trains to the end, once per config; tests only read the run."""
    runs: dict[str, RunFolder] = {}

    def run(config: AnyConfig) -> RunFolder:
        key = to_json(config)
        if key not in runs:
            runs[key], _ = run_training(config, tmp_path_factory.mktemp("whole"), Progress(Console(file=io.StringIO())))
        return runs[key]

    return run


def copy_of(run: RunFolder, folder: Path) -> RunFolder:
    """A copy for a test to change."""
    return RunFolder(shutil.copytree(run.path, folder / run.path.name))


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


def resumed_after(config: AnyConfig, stop_requested: Callable[[], bool], folder: Path, quiet: Progress) -> RunFolder:
    """A run that is interrupted, and goes on in what has another random state, as a new process has."""
    run = RunFolder.create(folder, config)
    data = made_up_images(config)
    assert train(config, run, data, quiet, stop_requested=stop_requested).interrupted
    torch.manual_seed(999)
    assert train(config, run, data, quiet, resume=True).step == config.steps
    return run


@pytest.mark.parametrize("name", CONFIGS)
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    name: str, uninterrupted: Uninterrupted, tmp_path: Path, quiet: Progress, stop_after: StopAfter
) -> None:
    # The interruption falls inside an epoch, between critic and generator updates, into a fade, and after a pool is
    # full; a batch of two epochs, the end of a fade and a growth are to come.
    config = CONFIGS[name]
    whole = uninterrupted(config)
    parts = resumed_after(config, stop_after(3), tmp_path, quiet)
    assert_same_checkpoints(whole, parts)
    assert step_rows(whole) == step_rows(parts)
    assert {path.name for path in whole.samples.iterdir()} <= {path.name for path in parts.samples.iterdir()}


def test_an_interrupted_run_ends_after_the_step_and_keeps_a_full_pool(
    tmp_path: Path, quiet: Progress, stop_after: StopAfter
) -> None:
    config = KINDS["translator"]
    run = RunFolder.create(tmp_path, config)
    summary = train(config, run, made_up_images(config), quiet, stop_requested=stop_after(3))
    assert (summary.interrupted, summary.step) == (True, 3)
    assert len(tensors_of(run)["pool_a.images"]) == len(tensors_of(run)["pool_b.images"]) == 6


# Of 3 critic steps: after one, after two, as the generator has moved. The phase is the same for every objective.
@pytest.mark.parametrize(
    ("objective", "stop"), [("wgan", 1), ("wgan", 2), ("wgan", 3), ("wgan-gp", 2), ("wgan-div", 4)]
)
def test_a_critic_may_be_interrupted_in_any_phase(
    objective: str, stop: int, uninterrupted: Uninterrupted, tmp_path: Path, quiet: Progress, stop_after: StopAfter
) -> None:
    config = CRITICS[objective]
    data = made_up_images(config)
    whole = uninterrupted(config)
    parts = RunFolder.create(tmp_path, config)
    train(config, parts, data, quiet, stop_requested=stop_after(stop))
    assert parts.read_metadata().counters["critic_steps_since_generator"] == stop % 3
    assert parts.read_metadata().counters["generator_steps"] == stop // 3
    torch.manual_seed(999)
    train(config, parts, data, quiet, resume=True)
    assert_same_checkpoints(whole, parts)
    assert step_rows(whole) == step_rows(parts)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_in_bf16_resumes_bit_for_bit(
    kind: str, uninterrupted: Uninterrupted, tmp_path: Path, quiet: Progress, stop_after: StopAfter
) -> None:
    config = override(KINDS[kind], {"precision": "bf16"})
    whole = uninterrupted(config)
    assert step_rows(whole) != step_rows(uninterrupted(KINDS[kind]))  # so that bf16 was at work
    parts = resumed_after(config, stop_after(3), tmp_path, quiet)
    assert_same_checkpoints(whole, parts)
    assert step_rows(whole) == step_rows(parts)


@pytest.mark.parametrize("stop", [1, 2, 4, 5, 7])  # before, in and after a fade; when it has alpha 0; at the final size
def test_a_growing_run_may_be_interrupted_anywhere(
    stop: int, uninterrupted: Uninterrupted, tmp_path: Path, quiet: Progress, stop_after: StopAfter
) -> None:
    # Batches of 4, and of 2 at 8x8.
    config = override(KINDS["growing"], {"growth.batch_sizes": {8: 2}, "growth.fade_images": 4})
    whole = uninterrupted(config)
    sizes = [(row["resolution"], row["alpha"]) for row in whole.metrics.read() if row["kind"] == "step"]
    assert sizes[:5] == [(4, 1), (8, 0.25), (8, 0.75), (8, 1), (16, 0)]
    assert sizes[-1] == (16, 1)
    parts = resumed_after(config, stop_after(stop), tmp_path, quiet)
    assert_same_checkpoints(whole, parts)
    assert step_rows(whole) == step_rows(parts)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_killed_after_its_checkpoint_resumes_from_it(
    kind: str, uninterrupted: Uninterrupted, tmp_path: Path, quiet: Progress
) -> None:
    config = KINDS[kind]
    killed = RunFolder.create(tmp_path, config)

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
    assert_same_checkpoints(uninterrupted(config), killed)
    assert step_rows(uninterrupted(config)) == step_rows(killed)


def test_a_run_killed_before_its_first_checkpoint_begins_again(
    uninterrupted: Uninterrupted, tmp_path: Path, quiet: Progress
) -> None:
    config = KINDS["gan"]
    killed = RunFolder.create(tmp_path, config)
    killed.metrics.append([{"kind": "step", "step": 1}])
    train(config, killed, made_up_images(config), quiet, resume=True)
    assert_same_checkpoints(uninterrupted(config), killed)
    assert step_rows(uninterrupted(config)) == step_rows(killed)


@pytest.mark.parametrize("kind", ["gan", "growing"])  # by the score alone, and by the size before it
def test_an_interruption_does_not_change_which_checkpoint_is_best(
    kind: str, tmp_path: Path, quiet: Progress, stop_after: StopAfter
) -> None:
    config = override(KINDS[kind], {"steps": 14, "evaluate_every_steps": 4, "generator_lr": 2e-2})
    whole, summary = run_training(config, tmp_path / "whole", quiet)
    parts = RunFolder.create(tmp_path / "parts", config)
    train(config, parts, made_up_images(config), quiet, stop_requested=stop_after(6))
    again = train(config, parts, made_up_images(config), quiet, resume=True)
    assert again.best_score == summary.best_score
    assert_same_weights(whole.checkpoint_path("best"), parts.checkpoint_path("best"))


@pytest.mark.parametrize(("kind", "now", "then"), [("gan", 19, 18), ("translator", 37, 35)])
def test_a_run_does_not_go_on_with_other_images(
    kind: str, now: int, then: int, uninterrupted: Uninterrupted, quiet: Progress
) -> None:
    config = KINDS[kind]
    run = uninterrupted(config)
    other = made_up_images(config, 19)
    with pytest.raises(
        UserError,
        match=rf"--resume: the images of .* are not those that this run began with \({now} now, {then} then\)",
    ):
        train(override(config, {"steps": 9}), run, other, quiet, resume=True)
    assert run.read_config() == config


@pytest.mark.parametrize(
    ("length", "shorter", "finished"),
    [
        ({"steps": 8}, {"steps": 2}, "step 8, image 32"),
        ({"steps": None, "images": 18}, {"images": 16}, "step 5, image 20"),
        ({"steps": None, "epochs": 2}, {"epochs": 1}, "step 9, image 36"),
    ],
)
def test_a_run_cannot_be_resumed_to_less_than_it_has_seen(
    length: dict[str, object], shorter: dict[str, object], finished: str, uninterrupted: Uninterrupted, quiet: Progress
) -> None:
    config = override(KINDS["gan"], length)
    run = uninterrupted(config)
    with pytest.raises(UserError, match=f"this run is at {finished} already"):
        train(override(config, shorter), run, made_up_images(config), quiet, resume=True)
    assert run.read_config() == config


@pytest.mark.parametrize(
    ("kind", "length", "longer", "steps"),  # a translator's learning rate depends on the length
    [
        ("gan", {"steps": 4}, {"steps": 8}, 8),
        ("gan", {"steps": None, "epochs": 1}, {"epochs": 2}, 9),
        ("gan", {"steps": None, "images": 18}, {"images": 30}, 8),
        ("gan", {"steps": 4}, {"steps": None, "images": 30}, 8),
        ("growing", {"steps": 4}, {"steps": 8}, 8),
    ],
)
def test_a_finished_run_can_be_extended(
    kind: str,
    length: dict[str, object],
    longer: dict[str, object],
    steps: int,
    uninterrupted: Uninterrupted,
    tmp_path: Path,
    quiet: Progress,
) -> None:
    config = override(KINDS[kind], length)
    run = copy_of(uninterrupted(config), tmp_path)
    extended = override(config, longer)
    assert train(extended, run, made_up_images(config), quiet, resume=True).step == steps
    assert_same_weights(uninterrupted(extended).checkpoint_path("last"), run.checkpoint_path("last"))


@pytest.mark.parametrize(
    ("kind", "length"),
    [
        *((kind, {}) for kind in KINDS),
        ("gan", {"steps": None, "epochs": 1}),
        ("gan", {"steps": None, "images": 18}),
    ],
)
def test_resuming_a_finished_run_changes_no_weight(
    kind: str, length: dict[str, object], uninterrupted: Uninterrupted, tmp_path: Path, quiet: Progress
) -> None:
    config = override(KINDS[kind], length)
    run = copy_of(uninterrupted(config), tmp_path)
    before, step = run.checkpoint_path("last").read_bytes(), run.read_metadata().step
    assert train(config, run, made_up_images(config), quiet, resume=True).step == step
    assert run.checkpoint_path("last").read_bytes() == before


@pytest.mark.parametrize("kind", ["gan", "translator"])
def test_a_run_interrupted_at_what_becomes_its_last_step_can_be_exported(
    kind: str, tmp_path: Path, quiet: Progress, stop_after: StopAfter
) -> None:
    config = KINDS[kind]
    run, data = RunFolder.create(tmp_path, config), made_up_images(config)
    train(config, run, data, quiet, stop_requested=stop_after(2))
    assert not run.checkpoint_path("best").exists()
    train(override(config, {"steps": 2}), run, data, quiet, resume=True)
    assert load_generators(run.path, "best")[0].training["step"] == 2


def test_a_kill_before_the_checkpoint_loses_no_networks_of_an_epoch(
    tmp_path: Path, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = KINDS["translator"]
    run, data = RunFolder.create(tmp_path, config), made_up_images(config)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config, run, data, quiet)
    assert run.checkpoint_path("epoch-0001").is_file()
