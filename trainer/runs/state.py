"""Converts a training state to named tensors and back.

Tensors are checked when they are restored, because a checkpoint is untrusted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer, RMSprop

from trainer.errors import UserError


class ImageHistory(Protocol):
    """A pool of earlier images: trainer.training.image_pool.ImagePool."""

    @property
    def images(self) -> Tensor:
        """A copy of the stored images, (n, C, H, W)."""

    def restore(self, images: Tensor) -> None:
        """Replaces the stored images.

        Raises:
            ValueError: the images do not fit.
        """


@dataclass(kw_only=True)
class TrainingState(ABC):
    """Everything in a checkpoint except torch's random state."""

    device: torch.device
    step: int = 0  # steps taken, each on one batch of real images
    images_seen: int = 0  # real images in them

    COUNTERS: ClassVar[tuple[str, ...]] = ()  # names of a subclass's own integer fields
    CARRIED_COUNTERS: ClassVar[tuple[str, ...]] = ()  # those that describe the networks, so they go with their weights

    @property
    @abstractmethod
    def networks(self) -> Mapping[str, nn.Module]:
        """All networks, averages included, by their names in a checkpoint."""

    @property
    @abstractmethod
    def optimizers(self) -> Mapping[str, Optimizer]:
        """All optimisers, by their names in a checkpoint."""

    @property
    def pools(self) -> Mapping[str, ImageHistory]:
        """Image pools, by their names in a checkpoint."""
        return {}

    @property
    def grows(self) -> bool:
        """Whether some parameters start training later than others."""
        return False

    @property
    def counters(self) -> dict[str, int]:
        """The subclass's own integers."""
        return {name: getattr(self, name) for name in self.COUNTERS}


def state_to_tensors(state: TrainingState) -> dict[str, Tensor]:
    """Networks, averages, optimiser moments, pools and torch's random state, by name."""
    tensors = {"random.cpu": torch.get_rng_state()}
    if state.device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(state.device)
    tensors |= network_tensors(state)
    for prefix, optimizer in state.optimizers.items():
        for index, moments in optimizer.state_dict()["state"].items():
            named = ((name, moment) for name, moment in moments.items() if moment is not None)
            tensors |= {f"{prefix}.{index}.{name}": moment.contiguous() for name, moment in named}
    return tensors | {f"{prefix}.images": pool.images for prefix, pool in state.pools.items()}


def network_tensors(state: TrainingState) -> dict[str, Tensor]:
    """The weights and buffers of every network, by name."""
    return {
        f"{prefix}.{name}": tensor.contiguous()
        for prefix, network in state.networks.items()
        for name, tensor in network.state_dict().items()
    }


def restore_state(state: TrainingState, tensors: dict[str, Tensor]) -> None:
    """Sets the state and torch's random state; the caller sets steps and counters.

    Raises:
        UserError: the tensors do not fit the networks, optimisers or pools of `state`.
    """
    try:
        for prefix, network in state.networks.items():
            network.load_state_dict(section(tensors, prefix))
        for prefix, optimizer in state.optimizers.items():
            _restore_optimizer(optimizer, section(tensors, prefix), may_lack=state.grows)
        for prefix, pool in state.pools.items():
            pool.restore(tensors[f"{prefix}.images"].to(state.device))
        torch.set_rng_state(tensors["random.cpu"])
        if state.device.type == "cuda" and "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"], state.device)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(" ".join(str(error).split())[:300]) from error


def section(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix.`, with the prefix removed."""
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}


def _restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor], *, may_lack: bool) -> None:
    """Checks and sets the moments: a fused optimiser does not check them, so a wrong shape would corrupt memory.

    Untrained parameters have no moments. Unless `may_lack`, either all parameters have moments or none do.
    """
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        moments.setdefault(int(number), {})[name] = tensor
    parameters: list[nn.Parameter] = [each for group in optimizer.param_groups for each in group["params"]]
    names = _moment_names(optimizer)
    expected = set(range(len(parameters)))
    fits = set(moments) <= expected if may_lack else set(moments) == expected
    if moments and not (fits and names):
        raise ValueError("the moments of the optimiser do not belong to its parameters")
    for index, found in moments.items():
        shapes = {name: torch.Size() if name == "step" else parameters[index].shape for name in names}
        if {name: moment.shape for name, moment in found.items()} != shapes or any(
            moment.dtype != torch.float32 for moment in found.values()
        ):
            raise ValueError(f"the moments of parameter {index} do not fit its optimiser")
    for index, found in moments.items():  # a fused optimiser assumes that both have the same memory layout
        moments[index] = {
            name: moment if name == "step" else torch.empty_like(parameters[index]).copy_(moment)
            for name, moment in found.items()
        }
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


def _moment_names(optimizer: Optimizer) -> tuple[str, ...]:
    if isinstance(optimizer, Adam):
        return ("step", "exp_avg", "exp_avg_sq")
    return ("step", "square_avg") if isinstance(optimizer, RMSprop) else ()
