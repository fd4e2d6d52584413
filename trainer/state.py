"""A training state as named tensors, and back; what comes back is checked, for a checkpoint is untrusted.

Knows nothing of files.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer, RMSprop

from trainer.errors import UserError
from trainer.step import TrainingState

EMA_PREFIX = "ema_generator."


def state_to_tensors(state: TrainingState) -> dict[str, Tensor]:
    """Networks, running average, optimiser moments and torch's random state, by name."""
    tensors = {"random.cpu": torch.get_rng_state()}
    if state.device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(state.device)
    for network, prefix in _networks(state):
        tensors |= {prefix + name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    for optimizer, prefix in _optimizers(state):
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"{prefix}{index}.{name}": moment for name, moment in moments.items() if moment is not None}
    return tensors


def restore_state(state: TrainingState, tensors: dict[str, Tensor]) -> None:
    """Sets the state, and torch's random state, from such tensors.

    Raises:
        UserError: they do not fit the networks and optimisers of `state`.
    """
    try:
        for network, prefix in _networks(state):
            network.load_state_dict(section(tensors, prefix))
        for optimizer, prefix in _optimizers(state):
            _restore_optimizer(optimizer, section(tensors, prefix))
        torch.set_rng_state(tensors["random.cpu"])
        if state.device.type == "cuda" and "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"], state.device)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(" ".join(str(error).split())[:300]) from error


def section(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _networks(state: TrainingState) -> tuple[tuple[nn.Module, str], ...]:
    return (
        (state.generator, "generator."),
        (state.discriminator, "discriminator."),
        (state.ema_generator, EMA_PREFIX),
    )


def _optimizers(state: TrainingState) -> tuple[tuple[Optimizer, str], ...]:
    return (
        (state.generator_optimizer, "generator_optimizer."),
        (state.discriminator_optimizer, "discriminator_optimizer."),
    )


def _restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Fused optimisers read and write moments without checking them, so a wrong shape would corrupt memory."""
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        moments.setdefault(int(number), {})[name] = tensor
    parameters: list[nn.Parameter] = [each for group in optimizer.param_groups for each in group["params"]]
    names = _moment_names(optimizer)
    if moments and (set(moments) != set(range(len(parameters))) or not names):
        raise ValueError("the moments of the optimiser are not those of its parameters")
    for index, found in moments.items():
        shapes = {name: torch.Size() if name == "step" else parameters[index].shape for name in names}
        if {name: moment.shape for name, moment in found.items()} != shapes or any(
            moment.dtype != torch.float32 for moment in found.values()
        ):
            raise ValueError(f"the moments of parameter {index} do not fit its optimiser")
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


def _moment_names(optimizer: Optimizer) -> tuple[str, ...]:
    if isinstance(optimizer, Adam):
        return ("step", "exp_avg", "exp_avg_sq")
    return ("step", "square_avg") if isinstance(optimizer, RMSprop) else ()
