"""One training step of CycleGAN: both translators, then both discriminators. No files, no printing, no loop.

Zhu et al. 2017, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks", sections 3 and 4.
`ab` translates domain A into B, `ba` translates back. Discriminator `a` tells images of A from fakes made by `ba`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from trainer.config import TRANSLATORS, CycleConfig
from trainer.models import build_patch_discriminator, build_translator
from trainer.models.across_processes import across_processes
from trainer.parallel import all_rows, average_gradients, own_rows, world_size
from trainer.runs.state import TrainingState
from trainer.training.image_pool import ImagePool


@dataclass(kw_only=True)
class CycleState(TrainingState):
    """Networks, optimisers and image pools of a CycleGAN."""

    generator_ab: nn.Module
    generator_ba: nn.Module
    discriminator_a: nn.Module
    discriminator_b: nn.Module
    generator_optimizer: Optimizer  # of both translators, whose loss is one sum
    discriminator_optimizer: Optimizer  # of both discriminators, which share nothing
    pool_a: ImagePool
    pool_b: ImagePool

    @property
    def networks(self) -> dict[str, nn.Module]:
        """See `TrainingState`."""
        return {
            TRANSLATORS[0]: self.generator_ab,
            TRANSLATORS[1]: self.generator_ba,
            "discriminator_a": self.discriminator_a,
            "discriminator_b": self.discriminator_b,
        }

    @property
    def optimizers(self) -> dict[str, Optimizer]:
        """See `TrainingState`."""
        return {
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }

    @property
    def pools(self) -> dict[str, ImagePool]:
        """See `TrainingState`."""
        return {"pool_a": self.pool_a, "pool_b": self.pool_b}


@dataclass(frozen=True)
class CycleResult:
    """What one step measured: scalars on the training device, means of both directions except for the two losses."""

    generator_loss: Tensor  # the weighted sum, over both directions, that the translators minimise
    discriminator_loss: Tensor  # sum of both discriminators' losses
    adversarial_loss: Tensor
    cycle_loss: Tensor  # mean absolute error in [-1, 1], without its weight
    identity_loss: Tensor  # in the same units
    real_score: Tensor  # near 1 for a confident discriminator
    fake_score: Tensor  # near 0 for a confident discriminator


def new_cycle_state(config: CycleConfig, device: torch.device) -> CycleState:
    """Builds networks and optimisers from torch's global random state."""
    layout = torch.channels_last  # fastest for convolutions
    generator_ab, generator_ba = (
        across_processes(build_translator(config.network)).to(device).to(memory_format=layout) for _ in range(2)
    )
    discriminator_a, discriminator_b = (
        across_processes(build_patch_discriminator(config.network)).to(device).to(memory_format=layout)
        for _ in range(2)
    )
    network = config.network
    image_shape = (network.channels, *network.size)
    return CycleState(
        device=device,
        generator_ab=generator_ab,
        generator_ba=generator_ba,
        discriminator_a=discriminator_a,
        discriminator_b=discriminator_b,
        generator_optimizer=_adam(config, config.generator_lr, generator_ab, generator_ba),
        discriminator_optimizer=_adam(config, config.discriminator_lr, discriminator_a, discriminator_b),
        pool_a=ImagePool(config.pool_images, image_shape),
        pool_b=ImagePool(config.pool_images, image_shape),
    )


def cycle_step(state: CycleState, config: CycleConfig, real_a: Tensor, real_b: Tensor, lr_factor: float) -> CycleResult:
    """Updates the translators, then the discriminators, on images (N, C, H, W) in [-1, 1] of both domains.

    The images are this process's rows of the batch, and the result is measured on them.

    Args:
        state: changed in place.
        config: the weights of the losses, and the learning rates.
        real_a: of domain A.
        real_b: of domain B, the same number.
        lr_factor: factor on both learning rates.
    """
    _set_lr(state.generator_optimizer, config.generator_lr * lr_factor)
    _set_lr(state.discriminator_optimizer, config.discriminator_lr * lr_factor)
    discriminators = (state.discriminator_a, state.discriminator_b)

    for discriminator in discriminators:
        discriminator.requires_grad_(False)  # their weight gradients are not needed
    to_b, to_a = _in_input_dtype(state.generator_ab), _in_input_dtype(state.generator_ba)
    fake_b, fake_a = to_b(real_a), to_a(real_b)
    scores_a, scores_b = (
        _in_input_dtype(network)(fake) for network, fake in zip(discriminators, (fake_a, fake_b), strict=True)
    )
    adversarial = _least_squares(scores_a, 1.0) + _least_squares(scores_b, 1.0)
    cycle = F.l1_loss(to_a(fake_b), real_a) + F.l1_loss(to_b(fake_a), real_b)
    loss = adversarial + config.cycle_weight * cycle
    identity = torch.zeros((), device=state.device)
    if config.identity_weight:  # a translator should leave images of its output domain unchanged (section 5.2)
        identity = F.l1_loss(to_b(real_b), real_b) + F.l1_loss(to_a(real_a), real_a)
        loss = loss + config.identity_weight * identity
    _update(state.generator_optimizer, loss)
    for discriminator in discriminators:
        discriminator.requires_grad_(True)

    scores: list[tuple[Tensor, Tensor]] = []
    discriminator_loss = torch.zeros((), device=state.device)
    pairs = ((real_a, _remembered(state.pool_a, fake_a)), (real_b, _remembered(state.pool_b, fake_b)))
    for discriminator, (reals, fakes) in zip(discriminators, pairs, strict=True):
        real_scores, fake_scores = _in_input_dtype(discriminator)(reals), _in_input_dtype(discriminator)(fakes)
        scores.append((real_scores.detach().mean(), fake_scores.detach().mean()))
        # Halved, so that a discriminator learns slowly relative to its translator (section 7.1).
        discriminator_loss = discriminator_loss + 0.5 * (
            _least_squares(real_scores, 1.0) + _least_squares(fake_scores, 0.0)
        )
    _update(state.discriminator_optimizer, discriminator_loss)

    state.step += 1
    state.images_seen += len(real_a) * world_size()
    (real_score_a, fake_score_a), (real_score_b, fake_score_b) = scores
    return CycleResult(
        loss.detach(),
        discriminator_loss.detach(),
        adversarial.detach() / 2,
        cycle.detach() / 2,
        identity.detach() / 2,
        (real_score_a + real_score_b) / 2,
        (fake_score_a + fake_score_b) / 2,
    )


def linear_decay(progress: float, constant_share: float) -> float:
    """Factor on the learning rate after `progress` (0..1) of a run: 1 at first, then falling linearly to 0."""
    return 1.0 if progress <= constant_share else max(0.0, (1 - progress) / (1 - constant_share))


def _least_squares(scores: Tensor, target: float) -> Tensor:
    """Mean squared distance to the label (Mao et al. 2017, "Least Squares Generative Adversarial Networks", eq. 9)."""
    return (scores - target).square().mean()


def _in_input_dtype(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """The network with its output converted to the dtype of its input: layers may compute in bf16."""
    return lambda images: network(images).to(images.dtype)


def _remembered(pool: ImagePool, fakes: Tensor) -> Tensor:
    """This process's rows of what the pool, which is equal in all processes, returns for the full batch of fakes."""
    return own_rows(pool.query(all_rows(fakes.detach())))


def _update(optimizer: Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    average_gradients(optimizer)
    optimizer.step()


def _adam(config: CycleConfig, lr: float, *networks: nn.Module) -> Optimizer:
    parameters = itertools.chain.from_iterable(network.parameters() for network in networks)
    return Adam(parameters, lr, betas=config.betas, fused=True)


def _set_lr(optimizer: Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
