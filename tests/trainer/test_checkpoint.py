from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.trainer.conftest import made_up_images, small_config
from trainer.checkpoint import CheckpointMetadata, RunFolder, load_generator, replace_file
from trainer.config import TrainConfig
from trainer.data import to_unit_range
from trainer.errors import RunFolderError
from trainer.step import TrainingState, new_state, train_step

METADATA = CheckpointMetadata(
    step=2,
    generator_steps=2,
    critic_steps_since_generator=1,
    images_seen=8,
    train_seconds=1.5,
    best_score=3.0,
    score=4.0,
    data_images=18,
    data_sha256="",
)
CPU = torch.device("cpu")


@pytest.fixture
def config() -> TrainConfig:
    return small_config("dcgan", "dcgan-digits")


@pytest.fixture
def trained(config: TrainConfig) -> TrainingState:
    state = new_state(config, CPU)
    reals = to_unit_range(made_up_images(config).images[:4])
    for _ in range(2):
        train_step(state, config, reals)
    return state


@pytest.fixture
def run(tmp_path: Path, config: TrainConfig) -> RunFolder:
    return RunFolder.create(tmp_path / "runs", config)


def test_run_folders_are_numbered_and_named_after_model_and_data(tmp_path: Path) -> None:
    names = []
    for dataset in ("digits", "folder:/some/Anime Faces", "zip:faces.v2.zip"):
        config = small_config("wgan-gp", "wgan-gp-digits", dataset=dataset)
        names.append(RunFolder.create(tmp_path, config).path.name)
    assert names == ["0001-wgan-gp-digits", "0002-wgan-gp-anime-faces", "0003-wgan-gp-faces-v2"]


def test_the_config_is_read_back_as_written(run: RunFolder, config: TrainConfig) -> None:
    assert RunFolder.open(run.path).read_config() == config


def test_a_checkpoint_restores_everything_the_next_step_depends_on(
    run: RunFolder, config: TrainConfig, trained: TrainingState
) -> None:
    run.save_checkpoint(trained, METADATA, best=False)
    reals = to_unit_range(made_up_images(config).images[4:8])
    train_step(trained, config, reals)
    restored = new_state(config, CPU)
    assert run.load_checkpoint(restored) == METADATA
    train_step(restored, config, reals)
    for one, other in (
        (trained.generator, restored.generator),
        (trained.discriminator, restored.discriminator),
        (trained.ema_generator, restored.ema_generator),
    ):
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), name


def test_the_best_checkpoint_stays_when_a_worse_one_is_saved(run: RunFolder, trained: TrainingState) -> None:
    run.save_checkpoint(trained, METADATA, best=True)
    best = run.checkpoint_path("best").read_bytes()
    trained.step = 3
    with torch.no_grad():
        next(trained.generator.parameters()).add_(1)
    run.save_checkpoint(trained, METADATA, best=False)
    assert run.checkpoint_path("best").read_bytes() == best
    assert run.checkpoint_path("last").read_bytes() != best


def test_the_exporter_gets_the_averaged_generator(run: RunFolder, trained: TrainingState) -> None:
    run.save_checkpoint(trained, METADATA, best=True)
    exported = load_generator(run.path, "best")
    latents = torch.randn(3, 100)
    assert torch.equal(exported.generator(latents), trained.ema_generator(latents))
    assert not exported.generator.training
    assert (exported.model, exported.dataset, exported.image_size) == ("dcgan", "digits", 32)
    assert exported.training["step"] == 2


def test_no_local_path_leaves_with_an_export(tmp_path: Path) -> None:
    config = small_config("dcgan", "dcgan-digits", dataset="folder:/home/somebody/secret")
    run = RunFolder.create(tmp_path, config)
    run.save_checkpoint(new_state(config, CPU), METADATA, best=True)
    assert load_generator(run.path, "best").dataset == "folder"


def test_a_run_without_a_checkpoint_says_so(run: RunFolder) -> None:
    with pytest.raises(RunFolderError, match="has no best checkpoint yet"):
        load_generator(run.path, "best")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="not a run folder"):
        RunFolder.open(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"model": "dcgan", "surprise": 1}', "\xff"])
def test_a_damaged_config_is_refused(run: RunFolder, content: str) -> None:
    (run.path / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(RunFolderError, match="not a valid config"):
        run.read_config()


@pytest.mark.parametrize("damage", ["cut", "junk", "empty", "pickle"])
def test_a_damaged_checkpoint_is_refused(
    run: RunFolder, config: TrainConfig, trained: TrainingState, damage: str
) -> None:
    run.save_checkpoint(trained, METADATA, best=False)
    path = run.checkpoint_path("last")
    content = path.read_bytes()
    if damage == "pickle":
        torch.save({"generator": trained.generator.state_dict()}, path)
    else:
        path.write_bytes({"cut": content[: len(content) // 2], "junk": os.urandom(500), "empty": b""}[damage])
    with pytest.raises(RunFolderError, match="not a checkpoint, or a damaged one"):
        run.load_checkpoint(new_state(config, CPU))


@pytest.mark.parametrize(
    ("name", "replacement"),
    [
        ("generator_optimizer.0.exp_avg", torch.zeros(3)),
        ("generator_optimizer.0.exp_avg", None),
        ("generator_optimizer.0.surprise", torch.zeros(3)),
        ("discriminator_optimizer.0.step", torch.zeros(3)),
        ("generator_optimizer.99.step", torch.zeros(())),
        ("generator_optimizer.x.step", torch.zeros(())),
        ("generator.1.weight", torch.zeros(3)),
        ("ema_generator.1.weight", None),
        ("random.cpu", torch.zeros(3)),
        ("random.cpu", None),
    ],
)
def test_a_checkpoint_with_a_wrong_tensor_is_refused_before_it_can_do_harm(
    run: RunFolder, config: TrainConfig, trained: TrainingState, name: str, replacement: torch.Tensor | None
) -> None:
    run.save_checkpoint(trained, METADATA, best=False)
    path = run.checkpoint_path("last")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = {key: tensor for key, tensor in load_file(path).items() if key != name}
    if replacement is not None:
        tensors[name] = replacement
    save_file(tensors, path, metadata)
    with pytest.raises(RunFolderError, match="does not fit this run's config") as caught:
        run.load_checkpoint(new_state(config, CPU))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"step": -5}, {"train_seconds": -1.0}, {"surprise": 1}, {"schema_version": 2}])
def test_nonsense_in_a_checkpoints_metadata_is_refused(
    run: RunFolder, config: TrainConfig, trained: TrainingState, change: dict[str, object]
) -> None:
    metadata = msgspec.json.encode(msgspec.to_builtins(METADATA) | change).decode()
    save_file({"x": torch.zeros(1)}, run.checkpoint_path("last"), {"ganserve": metadata})
    with pytest.raises(RunFolderError, match="not a checkpoint, or a damaged one"):
        run.load_checkpoint(new_state(config, CPU))


def test_a_checkpoint_of_other_networks_is_refused(run: RunFolder, trained: TrainingState) -> None:
    run.save_checkpoint(trained, METADATA, best=True)
    other = small_config("dcgan", "dcgan-digits", **{"network.width": 0.25})
    with pytest.raises(RunFolderError, match="does not fit this run's config"):
        run.load_checkpoint(new_state(other, CPU))


def test_metrics_are_cut_back_to_the_checkpoint_and_a_torn_last_line_is_dropped(run: RunFolder) -> None:
    run.append_metrics([{"kind": "step", "step": step} for step in range(1, 6)])
    with run.metrics.open("ab") as file:
        file.write(b'{"kind": "st')
    run.rewind_metrics(3)
    assert [row["step"] for row in run.read_metrics()] == [1, 2, 3]


@pytest.mark.parametrize("line", ["{}", "[1]", '{"kind":"step"}', '{"kind":"step","step":"1"}', "[" * 9999, "\xff"])
def test_a_line_that_no_run_writes_is_refused_with_its_number(run: RunFolder, line: str) -> None:
    run.append_metrics([{"kind": "step", "step": 1}])
    with run.metrics.open("ab") as file:
        file.write(line.encode("latin-1") + b"\n")
    with pytest.raises(RunFolderError, match=r"metrics.jsonl, line 2: not a line of metrics"):
        list(run.read_metrics())


def test_run_numbers_go_on_past_9999(tmp_path: Path, config: TrainConfig) -> None:
    for number in ("9999", "10000"):
        (tmp_path / f"{number}-dcgan-digits").mkdir()
    assert RunFolder.create(tmp_path, config).path.name == "10001-dcgan-digits"


def test_a_run_folder_appears_complete_or_not_at_all(
    tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunFolder, "write_config", fail)
    with pytest.raises(RunFolderError, match=r"--out .*No space left"):
        RunFolder.create(tmp_path, config)
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]


def test_what_a_kill_or_a_copy_left_is_mended(run: RunFolder) -> None:
    (run.path / "checkpoints" / ".best.safetensors.tmp").write_bytes(b"half")
    run.samples.rmdir()
    run.clean_up()
    assert run.samples.is_dir()
    assert list((run.path / "checkpoints").iterdir()) == []


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    replace_file(path, b"old")

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        replace_file(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
