from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.trainer.conftest import made_up_images, run_training, small_config, small_gan, tensors_of
from tests.trainer.runs.saved_states import ONE_OF_EACH_KIND, after_steps, metadata_of, new, save
from trainer.config import AnyConfig, GanConfig, override
from trainer.errors import RunFolderError, UserError
from trainer.progress import Progress
from trainer.runs.initial_weights import check_initial_weights, load_initial_weights, with_growth_continued
from trainer.runs.run_folder import RunFolder, load_generators
from trainer.runs.state import network_tensors, state_to_tensors
from trainer.training.gan_step import GanState
from trainer.training.loop import train


def trained_run(config: AnyConfig, out: Path, *, steps: int = 3) -> RunFolder:
    run = RunFolder.create(out, config)
    save(run, after_steps(config, steps), best=True)
    return run


def started_from(run: RunFolder, config: AnyConfig, **settings: object) -> AnyConfig:
    return override(config, {"init_from": str(run.path), **settings})


def networks_of(tensors: dict[str, Tensor], config: AnyConfig) -> dict[str, Tensor]:
    names = new(config).state.networks
    return {name: tensor for name, tensor in tensors.items() if name.partition(".")[0] in names}


@pytest.mark.parametrize("model", ONE_OF_EACH_KIND)
def test_all_networks_come_from_the_checkpoint_and_nothing_else(model: str, tmp_path: Path) -> None:
    config = ONE_OF_EACH_KIND[model]
    run = trained_run(config, tmp_path)
    torch.manual_seed(5)
    fresh = new(config)
    before = state_to_tensors(fresh.state)
    metadata = load_initial_weights(started_from(run, config), fresh.state)
    after, source = state_to_tensors(fresh.state), networks_of(tensors_of(run), config)
    assert metadata.step == 3
    assert {name for name in before if not torch.equal(before[name], after[name])} <= source.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in source.items())
    assert after.keys() == before.keys()  # no moments of the optimisers
    assert (fresh.state.step, fresh.state.images_seen) == (0, 0)


def test_the_average_goes_on_as_slowly_as_before(tmp_path: Path) -> None:
    config = ONE_OF_EACH_KIND["dcgan"]
    state = new(config).state
    load_initial_weights(started_from(trained_run(config, tmp_path), config), state)
    assert isinstance(state, GanState)
    assert (state.generator_steps, state.critic_steps_since_generator) == (3, 0)


def test_networks_of_an_epoch_can_be_taken(tmp_path: Path) -> None:
    config = ONE_OF_EACH_KIND["cyclegan"]
    trained = after_steps(config)
    run = RunFolder.create(tmp_path, config)
    run.keep_networks(trained.state, metadata_of(trained), 7)
    state = new(config).state
    load_initial_weights(started_from(run, config, init_checkpoint="epoch-0007"), state)
    source = network_tensors(trained.state)
    assert all(torch.equal(tensor, source[name]) for name, tensor in network_tensors(state).items())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"network.width": 0.25}, "width 0.125 there, 0.25 here"),
        ({"network.channels": 3, "network.latent_dim": 7}, "channels 1 there, 3 here; latent_dim 100 there, 7 here"),
        ({"network.architecture": "dcgan-k5"}, "architecture dcgan-k4 there, dcgan-k5 here"),
        ({"network.image_size": 64}, "image_size 32 there, 64 here); leave out --model"),
        ({"network.channels": 3}, "channels 1 there, 3 here); give images with as many channels"),
    ],
)
def test_other_networks_are_refused_with_what_differs(settings: dict[str, object], words: str, tmp_path: Path) -> None:
    config = ONE_OF_EACH_KIND["dcgan"]
    run = trained_run(config, tmp_path, steps=0)
    check_initial_weights(started_from(run, config, batch_size=2, generator_lr=0.5))
    with pytest.raises(UserError, match=r"--init-from .*networks differ") as caught:
        check_initial_weights(started_from(run, config, **settings))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_kind_of_run_is_refused(tmp_path: Path) -> None:
    run = trained_run(ONE_OF_EACH_KIND["dcgan"], tmp_path, steps=0)
    with pytest.raises(UserError, match="is a run of dcgan; cyclegan has other networks"):
        check_initial_weights(started_from(run, ONE_OF_EACH_KIND["cyclegan"]))


def test_a_run_without_the_checkpoint_is_refused(tmp_path: Path) -> None:
    config = ONE_OF_EACH_KIND["dcgan"]
    run = RunFolder.create(tmp_path, config)
    with pytest.raises(RunFolderError, match="has no best checkpoint yet"):
        with_growth_continued(started_from(run, config))
    save(run, after_steps(config), best=False)
    with pytest.raises(RunFolderError, match="train it longer, or give --checkpoint last"):
        with_growth_continued(started_from(run, config))
    with pytest.raises(UserError, match=r"--init-from .*nowhere: not a run folder .*; --init-from '' begins with new"):
        check_initial_weights(override(config, {"init_from": str(tmp_path / "nowhere")}))


@pytest.mark.parametrize(("steps", "size"), [(1, 4), (3, 8), (6, 16)])
def test_a_growing_run_begins_at_the_size_of_the_checkpoint(steps: int, size: int, tmp_path: Path) -> None:
    config = ONE_OF_EACH_KIND["pggan"]
    run = trained_run(config, tmp_path, steps=steps)
    continued = with_growth_continued(started_from(run, config))
    training = new(continued)
    assert (training.output_size, training.fade) == (size, 1)
    load_initial_weights(continued, training.state)
    training.train_step(0.0)
    assert training.output_size == size


def test_a_config_without_initial_weights_stays_as_it_is() -> None:
    for config in ONE_OF_EACH_KIND.values():
        assert with_growth_continued(config) == config
        check_initial_weights(config)


@pytest.mark.usefixtures("no_figures")
def test_a_run_differs_from_a_new_one_in_its_weights_alone_and_says_where_they_come_from(
    tmp_path: Path, quiet: Progress
) -> None:
    config = small_gan("dcgan", "dcgan-digits", steps=2)
    source, _ = run_training(config, tmp_path, quiet)
    # A learning rate of almost 0: what the run begins with is what it ends with.
    still = override(
        started_from(source, config), {"generator_lr": 1e-12, "discriminator_lr": 1e-12, "seed": 3, "steps": 1}
    )
    run, _ = run_training(still, tmp_path, quiet)
    taken, here = (tensors_of(each) for each in (source, run))
    weights = [name for name in taken if name.startswith("generator.") and name.endswith("weight")]
    assert weights
    for name in weights:
        torch.testing.assert_close(here[name], taken[name], rtol=0, atol=1e-6)
    new_run, _ = run_training(override(still, {"init_from": ""}), tmp_path, quiet)
    assert torch.equal(tensors_of(new_run)["random.cpu"], here["random.cpu"])
    (exported,) = load_generators(run.path, "last")
    assert exported.training["init_from"] == f"{source.path.name} (best)"
    (exported,) = load_generators(source.path, "last")
    assert "init_from" not in exported.training


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("saved", [True, False], ids=["after a checkpoint", "before the first checkpoint"])
def test_a_resumed_run_equals_one_that_was_not_interrupted(tmp_path: Path, quiet: Progress, *, saved: bool) -> None:
    config = small_config("dcgan", "dcgan-digits", steps=2)
    source, _ = run_training(config, tmp_path, quiet)
    started = started_from(source, config, steps=4, seed=3)
    whole, _ = run_training(started, tmp_path, quiet)
    part = RunFolder.create(tmp_path, started)
    if saved:
        train(override(started, {"steps": 2}), part, made_up_images(config), quiet)
        source.path.rename(tmp_path / "moved")  # no longer needed
    train(started, part, made_up_images(config), quiet, resume=True)
    expected, actual = tensors_of(whole), tensors_of(part)
    assert expected.keys() == actual.keys()
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


def test_any_gan_with_equal_networks_may_give_its_weights(tmp_path: Path) -> None:
    config = ONE_OF_EACH_KIND["dcgan"]
    run = trained_run(config, tmp_path, steps=0)
    assert isinstance(config, GanConfig)
    check_initial_weights(started_from(run, override(config, {"model": "wgan", "objective": "wgan"})))


def test_a_size_that_differs_is_named_as_the_flag_takes_it(tmp_path: Path) -> None:
    tall = small_gan("gan", "gan-digits", **{"network.image_size": 32, "network.image_width": 24})
    run = RunFolder.create(tmp_path, tall)
    config = override(tall, {"network.image_width": None, "init_from": str(run.path)})
    with pytest.raises(UserError, match=r"its networks differ \(image_size 32x24 there, 32 here\); leave out "):
        check_initial_weights(config)
