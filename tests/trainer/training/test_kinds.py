from __future__ import annotations

from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from PIL import Image

from tests.trainer.conftest import made_up_images, small_config
from tests.trainer.tiny_trainings import CPU, cycle_config, growing_config, noise_domains, noise_images
from trainer.config import AnyConfig, override
from trainer.data.datasets import ImageData
from trainer.data.unpaired import UnpairedData
from trainer.errors import UserError
from trainer.presets import MODELS, PRESETS
from trainer.progress import Progress
from trainer.training.base import Training
from trainer.training.cyclegan import CycleTraining
from trainer.training.gan import GanTraining
from trainer.training.kinds import Data, check_can_train, growth_warning, load_data, load_with_config, new_training


def write_images(root: Path) -> str:
    """A folder of two domains, which is a folder of images too."""
    for part, count in (("trainA", 3), ("trainB", 2)):
        (root / part).mkdir()
        for index in range(count):
            Image.new("L", (40, 40), 10 * index).save(root / part / f"{index}.png")
    return f"folder:{root}"


@pytest.mark.parametrize(("config", "kind"), [(growing_config(), ImageData), (cycle_config(), UnpairedData)])
def test_a_config_loads_data_of_its_kind(config: AnyConfig, kind: type[Data], tmp_path: Path, quiet: Progress) -> None:
    data = load_data(replace(config, dataset=write_images(tmp_path)), quiet)
    assert type(data) is kind
    images = data.images if isinstance(data, ImageData) else data.train_a
    assert images.shape == ((5, 1, 16, 16) if kind is ImageData else (3, 1, 32, 32))


def test_configs_share_decoded_data_of_one_size_and_kind(tmp_path: Path, quiet: Progress) -> None:
    config, decoded = growing_config(dataset=write_images(tmp_path)), dict[tuple[object, ...], Data]()
    first, second = (load_with_config(config, quiet, decoded=decoded)[1] for _ in range(2))
    assert first is second
    larger = override(config, {"network.image_size": 32})
    assert load_with_config(larger, quiet, decoded=decoded)[1].parts["images"].shape == (5, 1, 32, 32)
    assert isinstance(load_with_config(cycle_config(dataset=config.dataset), quiet, decoded=decoded)[1], UnpairedData)
    assert load_with_config(config, quiet)[1] is not first


def test_unreadable_files_are_tolerated_up_to_the_configs_number(tmp_path: Path, quiet: Progress) -> None:
    config = growing_config(dataset=write_images(tmp_path), max_corrupt_images=1)
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert len(load_data(config, quiet).skipped) == 1
    with pytest.raises(UserError, match="--max-corrupt"):
        load_data(replace(config, max_corrupt_images=0), quiet)


@pytest.mark.parametrize(
    ("config", "data", "kind"),
    [
        (growing_config(), noise_images(growing_config()), GanTraining),
        (cycle_config(), noise_domains(paired=True), CycleTraining),
    ],
)
def test_a_config_is_trained_by_its_kind(config: AnyConfig, data: Data, kind: type[Training]) -> None:
    training = new_training(config, data, CPU)
    assert type(training) is kind
    assert training.data_name == "noise"
    assert training.state.step == 0


def test_a_config_does_not_train_on_data_of_another_kind() -> None:
    with pytest.raises(TypeError, match="GanConfig does not train on UnpairedData"):
        new_training(growing_config(), noise_domains(paired=True), CPU)
    with pytest.raises(TypeError, match="CycleConfig does not train on ImageData"):
        new_training(cycle_config(), noise_images(growing_config()), CPU)


@pytest.mark.parametrize("config", [preset.config for preset in PRESETS.values()], ids=lambda config: config.preset)
def test_data_of_less_than_a_batch_are_turned_away_in_one_line(config: AnyConfig) -> None:
    small = replace(config, batch_size=8)
    enough: Data = noise_images(growing_config(), 8)
    too_few: Data = noise_images(growing_config(), 7)
    if isinstance(enough, ImageData) and config.model == "cyclegan":
        enough, too_few = noise_domains((8, 9), paired=False), noise_domains((9, 7), paired=False)
    check_can_train(small, enough, CPU)
    with pytest.raises(UserError) as caught:
        check_can_train(small, too_few, CPU)
    name = "domain B of noise" if config.model == "cyclegan" else "noise"
    assert str(caught.value) == f"--batch-size 8: {name} has only 7 images; give at most 7"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (noise_images(growing_config(), 5), "5 images"),
        (noise_domains((8, 6), (0, 0), paired=False), "8 + 6 images of two domains"),
        (noise_domains((8, 6), (4, 3), paired=False), "8 + 6 images of two domains, 4 + 3 for testing"),
        (noise_domains((8, 6), (4, 4), paired=True), "8 + 6 images of two domains, 4 + 4 for testing (pairs)"),
    ],
)
def test_the_user_is_told_how_many_images_there_are(data: Data, text: str) -> None:
    assert data.summary == text


@pytest.mark.parametrize(
    ("length", "note"),
    [
        ({"images": 7, "steps": None}, "this run ends at 4x4: 16x16 is complete after 32 images"),
        ({"images": 12, "steps": None}, "this run ends at 8x8, 38% faded in: 16x16 is complete after 32 images"),
        ({"steps": 7}, "this run ends at 16x16, 38% faded in: 16x16 is complete after 32 images"),
        ({"epochs": 5, "steps": None}, "this run ends at 16x16, 62% faded in: 16x16 is complete after 32 images"),
        ({"images": 33, "steps": None}, None),
    ],
)
def test_a_run_too_short_to_reach_its_size_is_foreseen(length: dict[str, int | None], note: str | None) -> None:
    config = growing_config(**length)
    foreseen = growth_warning(config, noise_images(config, 6))
    assert (foreseen or "").startswith(note or "")
    assert (foreseen is None) == (note is None)


def test_too_few_images_for_an_evaluation_are_turned_away_before_training() -> None:
    config = growing_config(batch_size=4)
    check_can_train(config, noise_images(config, 6), CPU)
    for batch_size in (4, 8):  # a smaller batch would not help
        with pytest.raises(UserError, match=r"^--dataset noise: has only 5 images; evaluations need at least 6, so"):
            check_can_train(replace(config, batch_size=batch_size), noise_images(config, 5), CPU)


def test_missing_weights_of_inception_are_reported_before_training(tmp_path: Path) -> None:
    config = growing_config(inception_weights=str(tmp_path / "weights.pth"))
    with pytest.raises(UserError, match=r"^--inception-weights .*weights\.pth: not readable"):
        check_can_train(config, noise_images(config), CPU)


def test_a_translator_cannot_be_deterministic_on_a_gpu() -> None:
    config = cycle_config(deterministic=True)
    data = noise_domains(paired=False)
    check_can_train(config, data, CPU)
    check_can_train(replace(config, deterministic=False), data, torch.device("cuda"))
    with pytest.raises(UserError, match=r"--deterministic: .* reflection padding on CUDA; leave it out, or .* cpu"):
        check_can_train(config, data, torch.device("cuda"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("in_memory", [True, False], ids=["on the device", "on the CPU"])
@pytest.mark.parametrize("model", MODELS)
def test_no_step_waits_for_the_gpu(model: str, in_memory: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not in_memory:
        for module in ("gan", "cyclegan"):
            monkeypatch.setattr(f"trainer.training.{module}.on_device", lambda images, _: images)
    preset = next(name for owner, name in PRESETS if owner == model)
    config = small_config(model, preset)
    training = new_training(config, made_up_images(config), torch.device("cuda"))
    training.train_step(0.0)  # reserves memory
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(4):
            training.train_step(0.0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
