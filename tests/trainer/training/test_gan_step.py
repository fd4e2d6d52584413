from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.trainer.conftest import GAN_PRESETS, made_up_images, small_gan
from trainer.config import GanConfig
from trainer.data.datasets import to_unit_range
from trainer.training.gan_step import GanState, _update_generator, new_state, train_step

CPU = torch.device("cpu")


def weights(network: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten().clone() for parameter in network.parameters()])


def start(config: GanConfig) -> tuple[GanState, Tensor]:
    return new_state(config, CPU), to_unit_range(made_up_images(config).images[: config.batch_size])


@pytest.mark.parametrize(("model", "preset"), GAN_PRESETS)
def test_steps_of_every_preset_move_both_networks_and_stay_finite(model: str, preset: str) -> None:
    config = small_gan(model, preset, warm_start=False)
    state, reals = start(config)
    before = weights(state.generator), weights(state.discriminator), weights(state.ema_generator)
    results = [train_step(state, config, reals) for _ in range(config.n_critic)]
    after = weights(state.generator), weights(state.discriminator), weights(state.ema_generator)
    for old, new in zip(before, after, strict=True):
        assert torch.isfinite(new).all()
        assert not torch.equal(old, new)
    assert results[-1].generator_loss is not None
    assert all(torch.isfinite(result.discriminator_loss) for result in results)
    if config.objective in {"saturating", "nonsaturating"}:
        assert all(0 <= result.real_score <= 1 and 0 <= result.fake_score <= 1 for result in results)


def test_the_generator_is_updated_once_in_n_critic_steps() -> None:
    config = small_gan("wgan", "mlp-wgan28", n_critic=3)
    state, reals = start(config)
    updated = [train_step(state, config, reals).generator_loss is not None for _ in range(7)]
    assert updated == [False, False, True, False, False, True, False]
    assert (state.step, state.generator_steps, state.critic_steps_since_generator) == (7, 2, 1)
    assert state.images_seen == 7 * config.batch_size


def test_generator_first_keeps_to_n_critic_too() -> None:
    config = small_gan("dcgan", "dcgan-upsample32", n_critic=3)
    state, reals = start(config)
    updated = [train_step(state, config, reals).generator_loss is not None for _ in range(7)]
    assert updated == [True, False, False, True, False, False, True]


def test_the_warm_start_trains_the_critic_100_times_first_and_at_every_500th_generator_step() -> None:
    config = small_gan("wgan", "wgan-paper", **{"network.width": 0.02, "network.image_size": 8, "batch_size": 2})
    state, reals = start(config)

    def critic_steps() -> int:
        for count in range(1, 200):
            if train_step(state, config, reals).generator_loss is not None:
                return count
        raise AssertionError("the generator was never updated")

    assert critic_steps() == 100
    state.generator_steps = 24
    assert critic_steps() == 100
    assert critic_steps() == 5
    state.generator_steps = 500
    assert critic_steps() == 100
    assert critic_steps() == 5


def test_clipping_bounds_every_critic_parameter_and_no_buffer() -> None:
    config = small_gan("wgan", "wgan64-k4", clip_value=0.003)
    state, reals = start(config)
    train_step(state, config, reals)
    assert weights(state.discriminator).abs().max() <= 0.003 + 1e-9
    variances = [buffer for name, buffer in state.discriminator.named_buffers() if name.endswith("running_var")]
    assert max(buffer.max().item() for buffer in variances) > 0.003
    assert weights(state.generator).abs().max() > 0.003


def test_a_generator_update_adds_nothing_to_the_discriminators_gradients() -> None:
    config = small_gan("dcgan", "dcgan64-k4", reuse_fakes=False)
    state, reals = start(config)
    train_step(state, config, reals)
    before = [parameter.grad.clone() for parameter in state.discriminator.parameters() if parameter.grad is not None]
    _update_generator(state, config, reals, None)
    after = [parameter.grad for parameter in state.discriminator.parameters()]
    assert len(before) == len(after)
    assert all(new is not None and torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert all(parameter.requires_grad for parameter in state.discriminator.parameters())


@pytest.mark.parametrize("reuse", [True, False])
def test_reused_fakes_cost_one_generator_forward_and_new_ones_two(reuse: bool) -> None:
    config = small_gan("dcgan", "dcgan64-k4", reuse_fakes=reuse)
    state, reals = start(config)
    forwards: list[int] = []
    state.generator.register_forward_hook(lambda *_: forwards.append(1))
    train_step(state, config, reals)
    assert len(forwards) == (1 if reuse else 2)


def test_generator_first_trains_the_discriminator_on_the_fakes_of_the_old_generator() -> None:
    config = small_gan("dcgan", "dcgan-upsample32")
    state, reals = start(config)
    seen: list[Tensor] = []
    made: list[Tensor] = []
    state.generator.register_forward_hook(lambda _m, _i, output: made.append(output.detach().clone()))
    state.discriminator.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0].detach().clone()))
    train_step(state, config, reals)
    assert len(made) == 1
    assert [torch.equal(images, made[0]) for images in seen] == [True, False, True]  # G's update, reals, fakes


def test_the_average_follows_weights_and_batch_norm_statistics() -> None:
    config = small_gan("dcgan", "dcgan64-k4", ema_decay=0.25)
    state, reals = start(config)
    expected = {name: tensor.clone() for name, tensor in state.ema_generator.state_dict().items()}
    for step in range(1, 6):
        train_step(state, config, reals)
        decay = min(0.25, (1 + step) / (10 + step))
        for name, tensor in state.generator.state_dict().items():
            floating = tensor.is_floating_point()
            expected[name] = decay * expected[name] + (1 - decay) * tensor if floating else tensor.clone()
    for name, tensor in state.ema_generator.state_dict().items():
        torch.testing.assert_close(tensor, expected[name])
    assert any(name.endswith("running_var") for name in expected)
    assert not state.ema_generator.training


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
def test_every_optimizer_trains(optimizer: str) -> None:
    config = small_gan("wgan", "wgan64-k4", optimizer=optimizer)
    state, reals = start(config)
    before = weights(state.discriminator)
    train_step(state, config, reals)
    assert not torch.equal(before, weights(state.discriminator))


def test_a_critic_learns_to_tell_images_from_noise() -> None:
    config = small_gan("wgan-gp", "wgan-gp-digits", n_critic=1000)
    state, reals = start(config)
    losses = [train_step(state, config, reals).discriminator_loss.item() for _ in range(40)]
    assert sum(losses[-5:]) < sum(losses[:5])


def discriminator_losses(steps: int, **settings: object) -> list[Tensor]:
    torch.manual_seed(0)
    config = small_gan("gan", "gan-digits", **settings)
    state, reals = start(config)
    return [train_step(state, config, reals).discriminator_loss for _ in range(steps)]


def test_lazy_penalties_apply_in_every_nth_update_with_n_times_the_weight() -> None:
    lazy = discriminator_losses(2, r1=1.0, r2=0.5, penalty_every=2)
    heavy = discriminator_losses(1, r1=2.0, r2=1.0, penalty_every=1)
    light = discriminator_losses(2, r1=1.0, r2=0.5, penalty_every=1)
    torch.testing.assert_close(lazy[0], heavy[0])
    assert lazy[0] > light[0]
    assert lazy[1] < light[1]  # without a penalty


@pytest.mark.parametrize("objective", ["hinge", "lsgan", "relativistic"])
def test_every_objective_of_a_gan_trains_both_networks(objective: str) -> None:
    config = small_gan("dcgan", "dcgan-digits", objective=objective, r1=0.1, r2=0.1)
    state, reals = start(config)
    networks = (state.generator, state.discriminator)
    before = [parameter.clone() for network in networks for parameter in network.parameters()]
    result = train_step(state, config, reals)
    after = [parameter for network in networks for parameter in network.parameters()]
    assert result.generator_loss is not None
    assert torch.isfinite(result.discriminator_loss)
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True) if a.ndim > 1)


def test_a_paired_generator_loss_leaves_the_reals_scores_alone() -> None:
    config = small_gan("gan", "gan-digits", objective="relativistic")
    state, reals = start(config)
    train_step(state, config, reals)
    before = [parameter.clone() for parameter in state.discriminator.parameters()]
    _update_generator(state, config, reals, None)
    assert all(torch.equal(a, b) for a, b in zip(before, state.discriminator.parameters(), strict=True))


def test_new_fakes_come_from_the_updated_generator_in_bfloat16_too() -> None:
    config = small_gan("dcgan", "dcgan-digits", generator_first=True, reuse_fakes=False, generator_lr=0.1)
    state, reals = start(config)
    calls: list[tuple[Tensor, Tensor]] = []
    state.generator.register_forward_hook(lambda _, inputs, output: calls.append((inputs[0], output)))
    with torch.autocast("cpu", torch.bfloat16):
        train_step(state, config, reals)
    (_, _), (latents, fakes) = calls  # for the generator's update, then for the discriminator's
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(state.generator(latents), fakes)
