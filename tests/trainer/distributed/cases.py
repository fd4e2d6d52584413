"""Short trainings, to be computed by one process and by several.

In double precision: what one process and two compute then differs in the last digits alone, and not by what Adam makes
of gradients that are zero but for rounding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor

from tests.trainer.conftest import made_up_images, small_config
from trainer.config import AnyConfig, GanConfig
from trainer.data.datasets import to_unit_range
from trainer.parallel import means_of_all
from trainer.runs.state import state_to_tensors
from trainer.training import cyclegan, gan
from trainer.training.kinds import check_can_train, new_training

_BATCH_NORM_CRITIC: Final = {"network.critic_norm": "batch", "n_critic": 1}

_SMALL_RATE: Final = {"generator_lr": 2e-4, "discriminator_lr": 2e-4}

_SMALLER: Final = {"network.image_size": 16, "network.latent_dim": 8, "network.width": 1 / 32}

_PLAIN_LOSS: Final = {
    "objective": "nonsaturating",
    "r1": 0.0,
    "r2": 0.0,
    "betas": (0.5, 0.999),
    "discriminator_lr": 1e-4,
}

# Each layer, objective and recipe that sees a whole batch, draws for it or takes means of it; and what is special:
# shares of one row, penalties through batch statistics, groups of a minibatch statistic in one share or in two.
CASES: Final[dict[str, AnyConfig]] = {
    "batch norm of vectors": small_config("gan", "gan-digits", **_SMALLER),
    "dropout, generator first": small_config("gan", "mlp-mnist", **{"network.latent_dim": 8}),
    "dropout of maps": small_config("dcgan", "dcgan-upsample32", **{"network.width": 1 / 32}),
    "saturating": small_config("gan", "mlp-anime64", **_SMALLER),
    "batch norm of maps": small_config("dcgan", "dcgan64-mnist", **_SMALLER),
    "pairs of reals and fakes, with penalties": small_config("dcgan", "dcgan-digits", **_SMALLER),
    "re-used fakes": small_config("dcgan", "dcgan64-k4", **_SMALLER),
    "clipped critic": small_config("wgan", "wgan-digits", **_SMALLER),
    "gradient penalty": small_config("wgan-gp", "wgan-gp-digits", **_SMALLER),
    "divergence": small_config("wgan-div", "wgan-div-digits", **_SMALLER),
    "divergence of reals and fakes": small_config("wgan-div", "mlp-wgan28", n_critic=2, **_SMALLER),
    "growing": small_config("pggan", "pggan-small"),
    "growing, of another paper": small_config("pggan", "pggan-anime128"),
    "translator": small_config("cyclegan", "cyclegan-digits"),
    "mirrored translator": small_config("cyclegan", "cyclegan-64"),
    "one row a process": small_config("dcgan", "dcgan-digits", batch_size=2),
    "penalty through batch norm": small_config("wgan-gp", "wgan-gp-digits", **_BATCH_NORM_CRITIC),
    "divergence through batch norm": small_config("wgan-div", "wgan-div-digits", **_BATCH_NORM_CRITIC),
    "groups within a share": small_config("pggan", "pggan-small", batch_size=8),
    "uneven groups across shares": small_config("pggan", "pggan-small", batch_size=10),
    "bf16": small_config("dcgan", "dcgan-digits", precision="bf16", **_PLAIN_LOSS, **{"network.critic_norm": "batch"}),
    # At a small rate: a large one turns the rounding of the first step into other gradients at the third.
    "bf16 penalty": small_config("wgan-gp", "wgan-gp-digits", precision="bf16", **_SMALL_RATE, **_BATCH_NORM_CRITIC),
}


def compute(config: AnyConfig) -> dict[str, Tensor]:
    """What a checkpoint holds after a few steps, and `measured.NAME`: what each step measured of the whole batch."""
    grows = isinstance(config, GanConfig) and config.growth is not None
    with torch.random.fork_rng(devices=[]), _computing_in(config):
        torch.manual_seed(config.seed)
        data = made_up_images(config)
        check_can_train(config, data, torch.device("cpu"))
        training = new_training(config, data, torch.device("cpu"))
        steps = [training.train_step(step / 10) for step in range(6 if grows else 3)]
        tensors = state_to_tensors(training.state)
        for name in steps[0]:
            values = means_of_all([value for step in steps if (value := step[name]) is not None])
            if values:
                tensors[f"measured.{name}"] = torch.stack(values)
    return tensors


def sha256_of(tensors: dict[str, Tensor]) -> str:
    """Of all bits of a checkpoint."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def _computing_in(config: AnyConfig) -> Iterator[None]:
    double = config.precision == "fp32"
    if not double:
        yield
        return
    torch.set_default_dtype(torch.float64)
    gan.to_unit_range = cyclegan.to_unit_range = lambda images: to_unit_range(images).double()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        gan.to_unit_range = cyclegan.to_unit_range = to_unit_range  # type: ignore[attr-defined]
        torch.set_default_dtype(torch.float32)
