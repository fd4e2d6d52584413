"""Losses and penalties of the GAN family, as pure functions of logits and of a critic.

Logits are (N,), before any sigmoid; images are (N, C, H, W). Discriminators and critics learn to score real images
high. Every loss is a mean over the batch and is minimised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.parallel import own_rows, world_size
from trainer.registry import Registry

Critic = Callable[[Tensor], Tensor]
Constraint = Literal["none", "clip", "gradient-penalty", "divergence"]  # what keeps a critic smooth
DivergencePoints = Literal["interpolates", "real-and-fake"]


def bce_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Binary cross entropy: real images are labelled 1, fakes 0 (Goodfellow et al. 2014, section 3)."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def nonsaturating_generator_loss(fake_logits: Tensor) -> Tensor:
    """Binary cross entropy of fakes labelled 1 (Goodfellow et al. 2014, section 3: "maximize log D(G(z))")."""
    return F.softplus(-fake_logits).mean()


def saturating_generator_loss(fake_logits: Tensor) -> Tensor:
    """The original min-max game: fakes labelled 0, with the cross entropy maximised (Goodfellow et al. 2014, eq. 1)."""
    return -F.softplus(fake_logits).mean()


def wasserstein_critic_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Mean score of fakes minus mean score of reals (Arjovsky et al. 2017, algorithm 1)."""
    return fake_logits.mean() - real_logits.mean()


def wasserstein_generator_loss(fake_logits: Tensor) -> Tensor:
    """Minus the mean score of fakes (Arjovsky et al. 2017, algorithm 1)."""
    return -fake_logits.mean()


def interpolate(reals: Tensor, fakes: Tensor) -> Tensor:
    """A random point on the line between each real and its fake, with one weight ~ U(0, 1) per sample."""
    weight = own_rows(torch.rand(len(reals) * world_size(), 1, 1, 1, device=reals.device, dtype=reals.dtype))
    return weight * reals + (1 - weight) * fakes


def gradient_norms(critic: Critic, points: Tensor) -> Tensor:
    """Norm of the critic's gradient at each point, over all channels and pixels; (N,), differentiable."""
    points = points.detach().requires_grad_(True)
    (gradients,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    norms: Tensor = torch.linalg.vector_norm(gradients.flatten(1).float(), dim=1)
    return norms


def gradient_penalty(critic: Critic, reals: Tensor, fakes: Tensor) -> Tensor:
    """Mean of (norm - 1)^2 at random interpolates (Gulrajani et al. 2017, eq. 3), without its weight."""
    return (gradient_norms(critic, interpolate(reals, fakes)) - 1).square().mean()


def divergence_penalty(
    critic: Critic, reals: Tensor, fakes: Tensor, power: float, points: DivergencePoints = "interpolates"
) -> Tensor:
    """Mean of norm^p (Wu et al. 2018, "Wasserstein Divergence for GANs", eq. 8), without its weight k.

    The penalty is even in the critic, so scoring reals low, as the paper does, gives the same game. `real-and-fake`, a
    common variant, takes the mean of the penalties at the reals and at the fakes.
    """
    if points == "interpolates":
        return gradient_norms(critic, interpolate(reals, fakes)).pow(power).mean()
    at_reals = gradient_norms(critic, reals).pow(power).mean()
    return (at_reals + gradient_norms(critic, fakes).pow(power).mean()) / 2


@dataclass(frozen=True)
class Objective:
    """The losses that both networks minimise, and how the critic is kept smooth."""

    discriminator_loss: Callable[[Tensor, Tensor], Tensor]
    generator_loss: Callable[[Tensor], Tensor]
    constraint: Constraint = "none"
    scores_are_probabilities: bool = False  # a sigmoid turns D(x) into a probability; critic scores stay raw


OBJECTIVES: Registry[Objective] = Registry("objective")
OBJECTIVES.add(
    "nonsaturating",
    Objective(bce_discriminator_loss, nonsaturating_generator_loss, scores_are_probabilities=True),
)
OBJECTIVES.add(
    "saturating",
    Objective(bce_discriminator_loss, saturating_generator_loss, scores_are_probabilities=True),
)
OBJECTIVES.add("wgan", Objective(wasserstein_critic_loss, wasserstein_generator_loss, "clip"))
OBJECTIVES.add("wgan-gp", Objective(wasserstein_critic_loss, wasserstein_generator_loss, "gradient-penalty"))
OBJECTIVES.add("wgan-div", Objective(wasserstein_critic_loss, wasserstein_generator_loss, "divergence"))


def read_accuracy(objective: Objective, real_logits: Tensor, fake_logits: Tensor) -> Tensor | None:
    """Share of images whose logit has the right sign, a scalar; None for critics, for which 0 is no threshold."""
    if not objective.scores_are_probabilities:
        return None
    return torch.cat([real_logits > 0, fake_logits < 0]).float().mean()


def read_scores(objective: Objective, logits: Tensor) -> Tensor:
    """Mean D(x) for the user, a scalar: a probability for GANs, the raw score for critics."""
    return (torch.sigmoid(logits) if objective.scores_are_probabilities else logits).mean()
