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


def hinge_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Scores of reals below 1 and of fakes above -1 are penalised linearly (Miyato et al. 2018, eq. 16)."""
    return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()


def hinge_generator_loss(fake_logits: Tensor) -> Tensor:
    """Minus the mean score of fakes (Miyato et al. 2018, eq. 17)."""
    return -fake_logits.mean()


def least_squares_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Half the squared distance of real scores from 1 and of fake scores from 0 (Mao et al. 2017, eq. 9)."""
    return ((real_logits - 1).square().mean() + fake_logits.square().mean()) / 2


def least_squares_generator_loss(fake_logits: Tensor) -> Tensor:
    """Half the squared distance of fake scores from 1 (Mao et al. 2017, eq. 9)."""
    return (fake_logits - 1).square().mean() / 2


def relativistic_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Each real image should score higher than the fake paired with it (Jolicoeur-Martineau 2018, section 4.1).

    The relativistic pairing GAN, also the loss of R3GAN (Huang et al. 2024, "The GAN is dead; long live the GAN!").
    """
    return F.softplus(fake_logits - real_logits).mean()


def relativistic_generator_loss(fake_logits: Tensor, real_logits: Tensor) -> Tensor:
    """Each fake should score higher than the real image paired with it (Jolicoeur-Martineau 2018, section 4.1)."""
    return F.softplus(real_logits - fake_logits).mean()


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


def zero_centred_penalty(critic: Critic, points: Tensor) -> Tensor:
    """Half the mean squared gradient norm, without its weight gamma.

    R1 at real images and R2 at fakes (Mescheder et al. 2018, "Which Training Methods for GANs do actually Converge?",
    eqs. 9 and 10).
    """
    return gradient_norms(critic, points).square().mean() / 2


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
    generator_loss: Callable[..., Tensor]  # of the logits of fakes and, if they are paired, of reals
    constraint: Constraint = "none"
    is_paired: bool = False  # the generator's loss compares each fake with a real image
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
OBJECTIVES.add("hinge", Objective(hinge_discriminator_loss, hinge_generator_loss))
OBJECTIVES.add("lsgan", Objective(least_squares_discriminator_loss, least_squares_generator_loss))
OBJECTIVES.add("relativistic", Objective(relativistic_discriminator_loss, relativistic_generator_loss, is_paired=True))
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
