"""The networks that the exporter gets from a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from safetensors.torch import load_file

from ganserve.bundle import check_name
from tests.trainer.conftest import small_config, small_cycle
from tests.trainer.runs.saved_states import ONE_OF_EACH_KIND, after_steps, metadata_of, new, save
from trainer.errors import RunFolderError
from trainer.runs.run_folder import RunFolder, load_generators
from trainer.training.cyclegan import CycleTraining
from trainer.training.gan import GanTraining


@pytest.mark.parametrize("model", ["dcgan", "pggan"])
def test_the_exporter_gets_the_averaged_generator_at_its_current_size(model: str, tmp_path: Path) -> None:
    config = ONE_OF_EACH_KIND[model]
    trained = after_steps(config)
    run = RunFolder.create(tmp_path, config)
    save(run, trained, best=True)
    (exported,) = load_generators(run.path, "best")
    assert isinstance(trained, GanTraining)
    latents = torch.randn(3, exported.latent_dim)
    torch.testing.assert_close(exported.network(latents), trained.state.ema_generator(latents))
    assert not exported.network.training
    assert (exported.name, exported.suffix, exported.model, exported.dataset) == (model, "", model, "digits")
    assert exported.size == (trained.output_size, trained.output_size)
    assert (exported.training["step"], exported.training["images_seen"]) == (3, 12)
    assert exported.training["some_distance"] == 4.0


def test_the_exporter_gets_both_translators(tmp_path: Path) -> None:
    config = small_cycle(domains=("horse", "zebra"))
    trained = after_steps(config)
    assert isinstance(trained, CycleTraining)
    run = RunFolder.create(tmp_path, config)
    save(run, trained, best=True)
    exported = load_generators(run.path, "best")
    assert [each.name for each in exported] == ["cyclegan-horse2zebra", "cyclegan-zebra2horse"]
    assert [each.suffix for each in exported] == ["-horse2zebra", "-zebra2horse"]
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    for each, translator in zip(exported, (trained.state.generator_ab, trained.state.generator_ba), strict=True):
        torch.testing.assert_close(each.network(images), translator(images))  # memory layouts differ
        assert (each.latent_dim, each.channels, each.size) == (0, 3, (32, 32))


def test_an_epoch_keeps_only_its_networks_and_they_can_be_exported(tmp_path: Path) -> None:
    config = small_cycle()
    trained = after_steps(config)
    assert isinstance(trained, CycleTraining)
    run = RunFolder.create(tmp_path, config)
    run.keep_networks(trained.state, metadata_of(trained), 7)
    names = load_file(run.checkpoint_path("epoch-0007"))
    assert {name.partition(".")[0] for name in names} == set(trained.state.networks)
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    exported = load_generators(run.path, "epoch-0007")
    torch.testing.assert_close(exported[0].network(images), trained.state.generator_ab(images))


@pytest.mark.parametrize("change", [{"output_size": 7}, {"output_size": 4}, {"output_size": 32}])
def test_a_checkpoint_with_an_impossible_size_or_fade_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    run = RunFolder.create(tmp_path, ONE_OF_EACH_KIND["pggan"])
    save(run, after_steps(ONE_OF_EACH_KIND["pggan"]), best=True, **change)
    with pytest.raises(RunFolderError, match=r"does not fit config\.json"):
        load_generators(run.path, "best")


def test_an_export_contains_no_local_path(tmp_path: Path) -> None:
    config = small_config("dcgan", "dcgan-digits", dataset="folder:/home/somebody/secret")
    run = RunFolder.create(tmp_path, config)
    save(run, new(config), best=True)
    (exported,) = load_generators(run.path, "best")
    assert exported.dataset == "folder:secret"
    assert "somebody" not in repr(exported)


@pytest.mark.parametrize(
    ("dataset", "model", "names"),
    [
        ("digits", "dcgan", ["dcgan"]),
        ("mnist", "pggan", ["mnist-pggan"]),
        ("folder:pictures/My Pictures", "dcgan", ["my-pictures-dcgan"]),
        ("zip:pictures/faces.v2.zip", "dcgan", ["faces-v2-dcgan"]),
        ("folder:" + "x" * 200, "dcgan", ["x" * 58 + "-dcgan"]),
        ("folder:horses", "cyclegan", ["horses-cyclegan-a2b", "horses-cyclegan-b2a"]),
    ],
)
def test_the_default_name_tells_the_data_set_and_the_model(
    tmp_path: Path, dataset: str, model: str, names: list[str]
) -> None:
    config = replace(ONE_OF_EACH_KIND[model], dataset=dataset)
    run = RunFolder.create(tmp_path, config)
    save(run, new(config), best=True)
    exported = load_generators(run.path, "best")
    assert [check_name(each.name) for each in exported] == names


def test_a_run_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, ONE_OF_EACH_KIND["dcgan"])
    with pytest.raises(RunFolderError, match="has no best checkpoint yet"):
        load_generators(run.path, "best")
