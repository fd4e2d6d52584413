"""One training step of a GAN: one batch of real images, one discriminator update, perhaps one generator update.

No files, no printing, no loop.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer, RMSprop
from torch.optim.sgd import SGD

from trainer.augmentation import augmented
from trainer.config import EMA_GENERATOR, GanConfig
from trainer.models import build_discriminator, build_generator
from trainer.models.across_processes import across_processes
from trainer.models.progressive import ProgressiveNetwork
from trainer.objectives import (
    OBJECTIVES,
    divergence_penalty,
    gradient_penalty,
    read_accuracy,
    read_scores,
    zero_centred_penalty,
)
from trainer.parallel import average_gradients, own_rows, world_size
from trainer.runs.state import TrainingState


@dataclass(kw_only=True)
class GanState(TrainingState):
    """Networks, optimisers and counters of a GAN."""

    generator: nn.Module
    discriminator: nn.Module
    ema_generator: nn.Module  # running average of the generator; sampled and exported
    generator_optimizer: Optimizer
    discriminator_optimizer: Optimizer
    generator_steps: int = 0
    critic_steps_since_generator: int = 0
    trained_size: int = 0  # output size of the last step, in pixels

    COUNTERS: ClassVar[tuple[str, ...]] = ("generator_steps", "critic_steps_since_generator", "trained_size")
    CARRIED_COUNTERS: ClassVar[tuple[str, ...]] = ("generator_steps",)  # without it, the average would forget

    @property
    def networks(self) -> dict[str, nn.Module]:
        """See `TrainingState`."""
        return {
            "generator": self.generator,
            "discriminator": self.discriminator,
            EMA_GENERATOR: self.ema_generator,
        }

    @property
    def grows(self) -> bool:
        """See `TrainingState`."""
        return isinstance(self.generator, ProgressiveNetwork)

    @property
    def optimizers(self) -> dict[str, Optimizer]:
        """See `TrainingState`."""
        return {
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }


@dataclass(frozen=True)
class StepResult:
    """What one step measured; scalars on the training device, so that reading them can wait."""

    discriminator_loss: Tensor  # with its penalty
    real_score: Tensor  # D(x): a probability for GANs, a raw score for critics
    fake_score: Tensor  # D(G(z)) before the generator's update
    accuracy: Tensor | None  # share of images whose logit has the right sign; None for a critic
    generator_loss: Tensor | None  # None if the generator was not updated
    fake_score_after: Tensor | None  # D(G(z)) in the generator's update; None if there was none


def new_state(config: GanConfig, device: torch.device) -> GanState:
    """Builds networks and optimisers from torch's global random state."""
    # Convolutions are fastest in this layout of images and weights.
    generator, discriminator = (
        across_processes(build(config.network)).to(device).to(memory_format=torch.channels_last)
        for build in (build_generator, build_discriminator)
    )
    ema_generator = copy.deepcopy(generator).eval().requires_grad_(False)
    return GanState(
        device=device,
        generator=generator,
        discriminator=discriminator,
        ema_generator=ema_generator,
        generator_optimizer=_optimizer(config, generator, config.generator_lr),
        discriminator_optimizer=_optimizer(config, discriminator, config.discriminator_lr),
    )


def train_step(state: GanState, config: GanConfig, reals: Tensor) -> StepResult:
    """Updates the discriminator on `reals` (N, C, H, W) in [-1, 1], and the generator when it is its turn.

    `reals` are this process's rows of the batch, and the result is measured on them. Call it under `autocast`; losses
    and penalties are computed in fp32 regardless.
    """
    reals = reals.contiguous(memory_format=torch.channels_last)
    count = len(reals)
    wanted = config.n_critic
    # Arjovsky's published code trains the critic longer at the start and periodically, to keep it near its optimum.
    if config.warm_start and (state.generator_steps < 25 or state.generator_steps % 500 == 0):
        wanted = 100
    generator_loss: Tensor | None = None
    after: Tensor | None = None
    fakes: Tensor | None = None
    if config.generator_first and (state.step == 0 or state.critic_steps_since_generator >= wanted):
        generator_loss, after, fakes = _update_generator(state, config, reals, None)
    state.critic_steps_since_generator += 1
    turn = not config.generator_first and state.critic_steps_since_generator >= wanted
    if fakes is None or not config.reuse_fakes:
        with torch.set_grad_enabled(turn and config.reuse_fakes):
            fakes = _new_fakes(state, config, count)
    loss, real_logits, fake_logits = _update_discriminator(state, config, reals, fakes.detach())
    if turn:
        kept = fakes if config.reuse_fakes else None
        generator_loss, after, _ = _update_generator(state, config, reals, kept)
    state.step += 1
    state.images_seen += count * world_size()
    objective = OBJECTIVES[config.objective]
    return StepResult(
        discriminator_loss=loss,
        real_score=read_scores(objective, real_logits),
        fake_score=read_scores(objective, fake_logits),
        accuracy=read_accuracy(objective, real_logits, fake_logits),
        generator_loss=generator_loss,
        fake_score_after=after,
    )


def _new_fakes(state: GanState, config: GanConfig, count: int) -> Tensor:
    """`count` fakes of standard normal latents from torch's global random state."""
    latents = own_rows(torch.randn(count * world_size(), config.network.latent_dim, device=state.device))
    fakes: Tensor = state.generator(latents).to(latents.dtype)
    return fakes


def _update_discriminator(
    state: GanState, config: GanConfig, reals: Tensor, fakes: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """One discriminator update; returns (loss, logits of reals, logits of fakes)."""
    objective = OBJECTIVES[config.objective]
    critic = augmented(state.discriminator, config.augment)
    # Two forwards, not one on the joined batch: batch norm must see reals and fakes apart.
    real_logits, fake_logits = critic(reals).to(reals.dtype), critic(fakes).to(fakes.dtype)
    loss = objective.discriminator_loss(real_logits, fake_logits) * config.discriminator_loss_scale
    if objective.constraint == "gradient-penalty":
        loss = loss + config.gp_weight * gradient_penalty(critic, reals, fakes)
    elif objective.constraint == "divergence":
        loss = loss + config.div_k * divergence_penalty(critic, reals, fakes, config.div_p, config.div_points)
    if (config.r1 or config.r2) and state.step % config.penalty_every == 0:
        at_reals = config.r1 * zero_centred_penalty(critic, reals) if config.r1 else 0.0
        at_fakes = config.r2 * zero_centred_penalty(critic, fakes) if config.r2 else 0.0
        loss = loss + config.penalty_every * (at_reals + at_fakes)
    if config.drift:
        loss = loss + config.drift * real_logits.square().mean()
    state.discriminator_optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    average_gradients(state.discriminator_optimizer)
    state.discriminator_optimizer.step()
    if objective.constraint == "clip":
        with torch.no_grad():
            for parameter in state.discriminator.parameters():  # batch norm's too, as in the paper; buffers never
                parameter.clamp_(-config.clip_value, config.clip_value)
    return loss.detach(), real_logits.detach(), fake_logits.detach()


def _update_generator(
    state: GanState, config: GanConfig, reals: Tensor, fakes: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """One generator update, on the given fakes with their graph or on new ones; returns (loss, D(G(z)), fakes)."""
    objective = OBJECTIVES[config.objective]
    if fakes is None:
        fakes = _new_fakes(state, config, len(reals))
    state.discriminator.requires_grad_(False)  # its weight gradients are not needed
    critic = augmented(state.discriminator, config.augment)
    logits = critic(fakes).to(fakes.dtype)
    if objective.is_paired:
        with torch.no_grad():
            real_logits = critic(reals).to(reals.dtype)
        loss = objective.generator_loss(logits, real_logits)
    else:
        loss = objective.generator_loss(logits)
    state.generator_optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    average_gradients(state.generator_optimizer)
    state.generator_optimizer.step()
    torch.clear_autocast_cache()  # it holds the old weights in bfloat16, for new fakes in the same step
    state.discriminator.requires_grad_(True)
    state.generator_steps += 1
    state.critic_steps_since_generator = 0
    _update_ema(state, config.ema_decay)
    return loss.detach(), read_scores(objective, logits.detach()), fakes


@torch.no_grad()
def _update_ema(state: GanState, decay: float) -> None:
    """Moves the average towards the generator, weights and batch norm statistics alike.

    The decay grows to its full value over the first steps, so that the average of a short run forgets the
    initial weights.
    """
    decay = min(decay, (1 + state.generator_steps) / (10 + state.generator_steps))
    for average, current in zip(
        state.ema_generator.state_dict().values(), state.generator.state_dict().values(), strict=True
    ):
        if average.is_floating_point():
            average.lerp_(current, 1 - decay)
        else:
            average.copy_(current)


def _optimizer(config: GanConfig, network: nn.Module, lr: float) -> Optimizer:
    parameters = network.parameters()
    if config.optimizer == "adam":
        return Adam(parameters, lr, betas=config.betas, fused=True)
    if config.optimizer == "rmsprop":
        return RMSprop(parameters, lr)
    return SGD(parameters, lr, fused=True)
