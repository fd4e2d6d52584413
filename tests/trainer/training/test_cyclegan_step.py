from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import Adam

from tests.trainer.tiny_trainings import CPU, cycle_config, noise
from trainer.data.datasets import to_unit_range
from trainer.training.cyclegan_step import CycleState, cycle_step, linear_decay, new_cycle_state
from trainer.training.image_pool import ImagePool


def reals(count: int = 4) -> tuple[Tensor, Tensor]:
    return to_unit_range(noise(count, 32, 1)), to_unit_range(noise(count, 32, 2))


def weights(network: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten().clone() for parameter in network.parameters()])


def all_weights(state: CycleState) -> list[Tensor]:
    return [weights(network) for network in state.networks.values()]


def plain_state(pools: tuple[ImagePool, ImagePool] | None = None) -> CycleState:
    """Networks of one convolution each, in double precision, whose losses are easily worked out again."""
    translators = [nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Tanh()).double() for _ in range(2)]
    discriminators = [nn.Conv2d(1, 1, 4, 2).double() for _ in range(2)]
    pool_a, pool_b = pools or (ImagePool(0), ImagePool(0))
    return CycleState(
        device=CPU,
        generator_ab=translators[0],
        generator_ba=translators[1],
        discriminator_a=discriminators[0],
        discriminator_b=discriminators[1],
        generator_optimizer=Adam([each for network in translators for each in network.parameters()]),
        discriminator_optimizer=Adam([each for network in discriminators for each in network.parameters()]),
        pool_a=pool_a,
        pool_b=pool_b,
    )


def after_first_adam_step(network: nn.Module, loss: Tensor, lr: float) -> Tensor:
    """Adam's first step, whatever its betas: both corrected moments are those of the gradient itself."""
    gradients = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    return weights(network) - lr * flat / (flat.abs() + 1e-8)


def test_a_step_takes_the_papers_losses_and_descends_them() -> None:
    config = cycle_config(cycle_weight=10.0, identity_weight=5.0, generator_lr=0.03, discriminator_lr=0.02)
    state = plain_state()
    ab, ba, d_a, d_b = (copy.deepcopy(network) for network in state.networks.values())
    a, b = (images.double() for images in reals())
    result = cycle_step(state, config, a, b, 0.5)

    fake_a, fake_b = ba(b), ab(a)
    adversarial = ((d_a(fake_a) - 1) ** 2).mean() + ((d_b(fake_b) - 1) ** 2).mean()
    cycle = (ba(fake_b) - a).abs().mean() + (ab(fake_a) - b).abs().mean()
    identity = (ab(b) - b).abs().mean() + (ba(a) - a).abs().mean()
    loss = adversarial + 10 * cycle + 5 * identity
    loss_a = (((d_a(a) - 1) ** 2).mean() + (d_a(fake_a.detach()) ** 2).mean()) / 2
    loss_b = (((d_b(b) - 1) ** 2).mean() + (d_b(fake_b.detach()) ** 2).mean()) / 2

    expected = {
        "generator_loss": loss,
        "discriminator_loss": loss_a + loss_b,
        "adversarial_loss": adversarial / 2,
        "cycle_loss": cycle / 2,
        "identity_loss": identity / 2,
        "real_score": (d_a(a).mean() + d_b(b).mean()) / 2,
        "fake_score": (d_a(fake_a).mean() + d_b(fake_b).mean()) / 2,
    }
    for name, value in expected.items():
        torch.testing.assert_close(getattr(result, name), value.detach(), msg=name)
        assert not getattr(result, name).requires_grad
    for network, trained, its_loss, lr in (
        (ab, state.generator_ab, loss, 0.015),
        (ba, state.generator_ba, loss, 0.015),
        (d_a, state.discriminator_a, loss_a, 0.01),
        (d_b, state.discriminator_b, loss_b, 0.01),
    ):
        torch.testing.assert_close(weights(trained), after_first_adam_step(network, its_loss, lr))


def test_the_discriminators_see_what_the_translators_made_before_their_update() -> None:
    state = plain_state()
    before = weights(state.generator_ab), weights(state.generator_ba)
    a, b = (images.double() for images in reals())
    fakes = {"a": state.generator_ba(b).detach(), "b": state.generator_ab(a).detach()}
    seen: dict[str, list[tuple[Tensor, bool]]] = {"a": [], "b": []}

    def watch(domain: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
        def hook(_module: nn.Module, inputs: tuple[Tensor]) -> None:
            changed = [not torch.equal(old, new) for old, new in zip(before, translators(), strict=True)]
            assert changed in ([False, False], [True, True])
            seen[domain].append((inputs[0].detach().clone(), changed[0]))

        return hook

    def translators() -> tuple[Tensor, Tensor]:
        return weights(state.generator_ab), weights(state.generator_ba)

    state.discriminator_a.register_forward_pre_hook(watch("a"))
    state.discriminator_b.register_forward_pre_hook(watch("b"))
    cycle_step(state, cycle_config(), a, b, 1.0)
    for domain, real in (("a", a), ("b", b)):
        judged, *learned = seen[domain]
        assert torch.equal(judged[0], fakes[domain])
        assert not judged[1]  # for the translators' own update
        assert [updated for _, updated in learned] == [True, True]
        shown = [images for images, _ in learned]
        assert any(torch.equal(images, real) for images in shown)
        assert any(torch.equal(images, fakes[domain]) for images in shown)


class _Substituting(ImagePool):
    """Remembers what it is given, and returns images of its own."""

    def __init__(self, returned: Tensor) -> None:
        super().__init__(0)
        self.given: list[Tensor] = []
        self.returned = returned

    def query(self, images: Tensor) -> Tensor:
        self.given.append(images.detach().clone())
        return self.returned


def test_each_discriminator_learns_from_what_its_own_pool_returns() -> None:
    pools = tuple(_Substituting(torch.full((4, 1, 32, 32), level, dtype=torch.float64)) for level in (0.25, -0.5))
    state = plain_state((pools[0], pools[1]))
    d_a, d_b = copy.deepcopy(state.discriminator_a), copy.deepcopy(state.discriminator_b)
    a, b = (images.double() for images in reals())
    fake_a, fake_b = state.generator_ba(b).detach(), state.generator_ab(a).detach()
    result = cycle_step(state, cycle_config(), a, b, 1.0)
    assert [len(pool.given) for pool in pools] == [1, 1]
    assert torch.equal(pools[0].given[0], fake_a)
    assert torch.equal(pools[1].given[0], fake_b)
    expected = (d_a(pools[0].returned).mean() + d_b(pools[1].returned).mean()) / 2
    torch.testing.assert_close(result.fake_score, expected.detach())


def test_earlier_fakes_come_back_through_the_pools_that_a_config_asks_for() -> None:
    state = new_cycle_state(cycle_config(pool_images=3), CPU)
    for _ in range(2):
        cycle_step(state, cycle_config(pool_images=3), *reals(), 1.0)
    assert [len(pool) for pool in state.pools.values()] == [3, 3]
    assert state.pool_a.capacity == state.pool_b.capacity == 3


def test_the_translators_update_leaves_nothing_behind_in_the_discriminators() -> None:
    state = new_cycle_state(cycle_config(), CPU)
    discriminators = (state.discriminator_a, state.discriminator_b)
    parameters = [parameter for network in discriminators for parameter in network.parameters()]
    at_update: list[list[Tensor | None]] = []

    def hook(*_: object) -> None:
        assert not any(parameter.requires_grad for parameter in parameters)
        at_update.append([None if each.grad is None else each.grad.clone() for each in parameters])

    state.generator_optimizer.register_step_pre_hook(hook)
    cycle_step(state, cycle_config(), *reals(), 1.0)
    of_its_own = [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]
    cycle_step(state, cycle_config(), *reals(), 1.0)
    assert at_update[0] == [None] * len(parameters)
    assert len(of_its_own) == len(parameters)
    assert all(new is not None and torch.equal(old, new) for old, new in zip(of_its_own, at_update[1], strict=True))
    assert all(parameter.requires_grad for parameter in parameters)


@pytest.mark.parametrize(("identity_weight", "forwards"), [(0.0, 2), (5.0, 3)])
def test_no_identity_weight_no_identity_forward(identity_weight: float, forwards: int) -> None:
    state = new_cycle_state(cycle_config(), CPU)
    calls = {"ab": 0, "ba": 0}
    for name, translator in (("ab", state.generator_ab), ("ba", state.generator_ba)):

        def count(*_: object, name: str = name) -> None:
            calls[name] += 1

        translator.register_forward_hook(count)
    result = cycle_step(state, cycle_config(identity_weight=identity_weight, cycle_weight=3.0), *reals(), 1.0)
    assert calls == {"ab": forwards, "ba": forwards}
    assert (result.identity_loss == 0) == (identity_weight == 0)
    parts = 2 * (result.adversarial_loss + 3 * result.cycle_loss + identity_weight * result.identity_loss)
    torch.testing.assert_close(result.generator_loss, parts)


def test_a_step_changes_all_four_networks_and_counts() -> None:
    state = new_cycle_state(cycle_config(), CPU)
    before = all_weights(state)
    cycle_step(state, cycle_config(), *reals(3), 1.0)
    assert [torch.equal(old, new) for old, new in zip(before, all_weights(state), strict=True)] == [False] * 4
    assert (state.step, state.images_seen) == (1, 3)
    assert state.counters == {}


def test_both_learning_rates_follow_the_factor() -> None:
    config = cycle_config(generator_lr=4e-4, discriminator_lr=1e-4)
    state = new_cycle_state(config, CPU)
    for factor in (1.0, 0.25, 0.5):
        cycle_step(state, config, *reals(), factor)
        assert [group["lr"] for group in state.generator_optimizer.param_groups] == [pytest.approx(4e-4 * factor)]
        assert [group["lr"] for group in state.discriminator_optimizer.param_groups] == [pytest.approx(1e-4 * factor)]


def test_a_factor_of_zero_changes_no_weight() -> None:
    state = new_cycle_state(cycle_config(), CPU)
    before = all_weights(state)
    cycle_step(state, cycle_config(), *reals(), 0.0)
    assert all(torch.equal(old, new) for old, new in zip(before, all_weights(state), strict=True))


def test_the_seed_decides_everything() -> None:
    def trained(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        state = new_cycle_state(cycle_config(), CPU)
        for _ in range(3):  # the pools of three images are full after the first
            cycle_step(state, cycle_config(), *reals(), 1.0)
        return [*all_weights(state), state.pool_a.images, state.pool_b.images]

    first, again, other = trained(5), trained(5), trained(6)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not any(torch.equal(one, two) for one, two in zip(first, other, strict=True))


@pytest.mark.parametrize(
    ("progress", "share", "factor"),
    [
        (0.0, 0.5, 1.0),
        (0.5, 0.5, 1.0),
        (0.75, 0.5, 0.5),
        (1.0, 0.5, 0.0),
        (0.25, 0.0, 0.75),
        (0.0, 0.0, 1.0),
        (1.0, 1.0, 1.0),
        (1.5, 0.5, 0.0),  # a run that goes over its length by part of a batch
    ],
)
def test_the_learning_rate_is_constant_and_then_falls_in_a_line(progress: float, share: float, factor: float) -> None:
    assert linear_decay(progress, share) == pytest.approx(factor)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_the_learning_rate_never_rises_and_stays_in_its_range(one: float, other: float, share: float) -> None:
    early, late = sorted((one, other))
    assert 1.0 >= linear_decay(early, share) >= linear_decay(late, share) >= 0.0
