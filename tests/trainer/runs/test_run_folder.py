from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.trainer.conftest import small_config
from tests.trainer.runs.saved_states import ONE_OF_EACH_KIND, after_steps, metadata_of, new, save
from trainer.config import AnyConfig, override
from trainer.errors import RunFolderError
from trainer.presets import PRESETS
from trainer.runs.run_folder import RunFolder, load_generators
from trainer.runs.state import state_to_tensors
from trainer.training.base import Training
from trainer.training.cyclegan import CycleTraining
from trainer.training.gan import GanTraining


def change_tensors(path: Path, changes: dict[str, Tensor | None]) -> None:
    """Replaces tensors of a checkpoint; None removes one."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path) | changes
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path, metadata)


@pytest.fixture
def config() -> AnyConfig:
    return ONE_OF_EACH_KIND["dcgan"]


@pytest.fixture
def trained(config: AnyConfig) -> Training:
    return after_steps(config)


@pytest.fixture
def run(tmp_path: Path, config: AnyConfig) -> RunFolder:
    return RunFolder.create(tmp_path / "runs", config)


def test_run_folders_are_numbered_and_named_after_model_and_data(tmp_path: Path) -> None:
    names = []
    for dataset in ("digits", "folder:/some/Anime Faces", "zip:faces.v2.zip"):
        config = small_config("wgan-gp", "wgan-gp-digits", dataset=dataset)
        names.append(RunFolder.create(tmp_path, config).path.name)
    assert names == ["0001-wgan-gp-digits", "0002-wgan-gp-anime-faces", "0003-wgan-gp-faces-v2"]


@pytest.mark.parametrize("config", ONE_OF_EACH_KIND.values(), ids=ONE_OF_EACH_KIND)
def test_the_config_is_read_back_as_written(run: RunFolder, config: AnyConfig) -> None:
    assert RunFolder.open(run.path).read_config() == config


@pytest.mark.parametrize("config", ONE_OF_EACH_KIND.values(), ids=ONE_OF_EACH_KIND)
def test_a_checkpoint_restores_everything_the_next_steps_depend_on(
    run: RunFolder, config: AnyConfig, trained: Training
) -> None:
    save(run, trained)
    restored = new(config)
    assert run.load_checkpoint(restored.state) == metadata_of(trained)
    restored.restored(trained.output_size, trained.fade)
    assert (restored.state.step, restored.state.images_seen) == (3, 12)
    rng = torch.get_rng_state()
    for training in (trained, restored):
        torch.set_rng_state(rng)
        for _ in range(2):
            training.train_step(0.0)
    expected, actual = state_to_tensors(trained.state), state_to_tensors(restored.state)
    assert expected.keys() == actual.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, actual[name]), name
    assert trained.state.counters == restored.state.counters


def test_a_checkpoint_in_a_fade_has_no_moments_of_unused_stages() -> None:
    trained = after_steps(ONE_OF_EACH_KIND["pggan"])
    assert isinstance(trained, GanTraining)
    assert (trained.output_size, trained.fade) == (8, 0.5)
    names = [name for name, _ in trained.state.generator.named_parameters()]
    prefix = "generator_optimizer."
    keys = (key.removeprefix(prefix) for key in state_to_tensors(trained.state) if key.startswith(prefix))
    with_moments = {names[int(key.split(".")[0])] for key in keys}
    assert with_moments == {name for name in names if name.split(".")[1] in {"0", "1"}}  # of stages 0, 1 and 2
    assert with_moments != set(names)


def test_a_checkpoint_holds_the_fakes_of_the_pools() -> None:
    trained = after_steps(ONE_OF_EACH_KIND["cyclegan"])
    assert isinstance(trained, CycleTraining)
    tensors = state_to_tensors(trained.state)
    for name, pool in trained.state.pools.items():
        assert tensors[f"{name}.images"].shape == (pool.capacity, 3, 32, 32)


def test_the_best_checkpoint_stays_when_a_worse_one_is_saved(run: RunFolder, trained: Training) -> None:
    save(run, trained, best=True)
    best = run.checkpoint_path("best").read_bytes()
    trained.train_step(0.0)
    save(run, trained)
    assert run.checkpoint_path("best").read_bytes() == best
    assert run.checkpoint_path("last").read_bytes() != best


@pytest.mark.parametrize("which", ["worst", "epoch-1", "../last", "epoch-0001/../../last", ""])
def test_an_unknown_checkpoint_name_is_refused_with_the_valid_ones(run: RunFolder, which: str) -> None:
    with pytest.raises(RunFolderError, match="choose best, last or, for runs that keep epochs, epoch-0001"):
        run.checkpoint_path(which)


def test_a_folder_that_is_not_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="not a run folder"):
        RunFolder.open(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"kind": "gan", "model": "dcgan", "surprise": 1}', "\xff"])
def test_a_damaged_config_is_refused(run: RunFolder, content: str) -> None:
    (run.path / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(RunFolderError, match="not a valid config"):
        run.read_config()


@pytest.mark.parametrize("damage", ["cut", "junk", "empty", "pickle"])
def test_a_damaged_checkpoint_is_refused(run: RunFolder, config: AnyConfig, trained: Training, damage: str) -> None:
    save(run, trained)
    path = run.checkpoint_path("last")
    content = path.read_bytes()
    if damage == "pickle":
        torch.save(state_to_tensors(trained.state), path)
    else:
        path.write_bytes({"cut": content[: len(content) // 2], "junk": os.urandom(500), "empty": b""}[damage])
    with pytest.raises(RunFolderError, match="not a checkpoint, or a damaged one"):
        run.load_checkpoint(new(config).state)


@pytest.mark.parametrize(
    ("model", "name", "replacement"),
    [
        ("dcgan", "generator_optimizer.0.exp_avg", torch.zeros(3)),
        ("dcgan", "generator_optimizer.0.exp_avg", None),
        ("dcgan", "generator_optimizer.0.surprise", torch.zeros(3)),
        ("dcgan", "discriminator_optimizer.0.step", torch.zeros(3)),
        ("dcgan", "generator_optimizer.99.step", torch.zeros(())),
        ("dcgan", "generator_optimizer.-1.step", torch.zeros(())),
        ("dcgan", "generator_optimizer.x.step", torch.zeros(())),
        ("dcgan", "generator.1.weight", torch.zeros(3)),
        ("dcgan", "ema_generator.1.weight", None),
        ("dcgan", "random.cpu", torch.zeros(3)),
        ("dcgan", "random.cpu", None),
        ("pggan", "generator_optimizer.0.exp_avg_sq", torch.zeros(3)),
        ("pggan", "generator_optimizer.0.exp_avg", torch.zeros(3, dtype=torch.float64)),
        ("pggan", "ema_generator.to_rgb.0.weight", None),
        ("cyclegan", "generator_optimizer.0.exp_avg", torch.zeros(3)),
        ("cyclegan", "discriminator_b.0.weight", None),
        ("cyclegan", "pool_a.images", None),
        ("cyclegan", "pool_a.images", torch.zeros(7, 3, 32, 32)),
        ("cyclegan", "pool_b.images", torch.zeros(1, 3, 16, 16)),
        ("cyclegan", "pool_b.images", torch.full((1, 3, 32, 32), torch.nan)),
    ],
)
def test_a_checkpoint_with_a_wrong_tensor_is_refused(
    tmp_path: Path, model: str, name: str, replacement: Tensor | None
) -> None:
    config = ONE_OF_EACH_KIND[model]
    run = RunFolder.create(tmp_path, config)
    save(run, after_steps(config, 2))
    change_tensors(run.checkpoint_path("last"), {name: replacement})
    with pytest.raises(RunFolderError, match="does not fit this run's config") as caught:
        run.load_checkpoint(new(config).state)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("counters", [{}, {"generator_steps": 1}, {"step": 1}])
def test_a_checkpoint_with_other_counters_is_refused(
    run: RunFolder, config: AnyConfig, trained: Training, counters: dict[str, int]
) -> None:
    save(run, trained, counters=counters)
    with pytest.raises(RunFolderError, match=r"does not fit this run's config\.json \(its counters are"):
        run.load_checkpoint(new(config).state)


@pytest.mark.parametrize(
    "change",
    [
        {"step": -5},
        {"train_seconds": -1.0},
        {"surprise": 1},
        {"schema_version": 1},
        {"fade": 1.5},
        {"output_size": 0},
        {"counters": {"generator_steps": -1}},
        {"figures": {"some_distance": "small"}},
    ],
)
def test_invalid_checkpoint_metadata_is_refused(
    run: RunFolder, config: AnyConfig, trained: Training, change: dict[str, object]
) -> None:
    metadata = msgspec.json.encode(msgspec.to_builtins(metadata_of(trained)) | change).decode()
    save_file({"x": torch.zeros(1)}, run.checkpoint_path("last"), {"ganserve": metadata})
    with pytest.raises(RunFolderError, match="not a checkpoint, or a damaged one"):
        run.load_checkpoint(new(config).state)


@pytest.mark.parametrize("other", ["wider", "pggan", "cyclegan"])
def test_a_checkpoint_of_other_networks_is_refused(run: RunFolder, trained: Training, other: str) -> None:
    save(run, trained, best=True)
    others = ONE_OF_EACH_KIND | {"wider": small_config("dcgan", "dcgan-digits", **{"network.width": 0.25})}
    with pytest.raises(RunFolderError, match="does not fit this run's config"):
        run.load_checkpoint(new(others[other]).state)
    run.write_config(others[other])
    with pytest.raises(RunFolderError, match=r"does not fit config\.json"):
        load_generators(run.path, "best")


def test_run_numbers_continue_past_9999(tmp_path: Path, config: AnyConfig) -> None:
    for number in ("9999", "10000"):
        (tmp_path / f"{number}-dcgan-digits").mkdir()
    assert RunFolder.create(tmp_path, config).path.name == "10001-dcgan-digits"


def test_a_run_folder_appears_complete_or_not_at_all(
    tmp_path: Path, config: AnyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunFolder, "write_config", fail)
    with pytest.raises(RunFolderError, match=r"--out .*No space left"):
        RunFolder.create(tmp_path, config)
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]


def test_clean_up_repairs_a_folder_after_a_kill_or_a_copy(run: RunFolder) -> None:
    (run.path / "checkpoints" / ".best.safetensors.tmp").write_bytes(b"half")
    run.samples.rmdir()
    run.clean_up()
    assert run.samples.is_dir()
    assert list((run.path / "checkpoints").iterdir()) == []


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("folder:/home/me/v1.5 faces/", "0001-dcgan-v1-5-faces"),
        ("zip:/home/me/faces.zip", "0001-dcgan-faces"),
        ("folder:/home/me/写真", "0001-dcgan-pictures"),
        ("folder:" + "x" * 200, "0001-dcgan-" + "x" * 40),
        ("digits", "0001-dcgan-digits"),
    ],
)
def test_a_run_is_named_after_its_data_without_the_folders_above(dataset: str, name: str, tmp_path: Path) -> None:
    config = override(PRESETS["dcgan", "dcgan-digits"].config, {"dataset": dataset})
    assert RunFolder.create(tmp_path, config).path.name == name
