"""What changes while a run goes on, as named tensors and back.

What comes back is checked, for a checkpoint is untrusted. Knows nothing of files, nor of what a step does with it.
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

# The networks that are exported, as checkpoints call them.
EMA_GENERATOR = "ema_generator"
TRANSLATORS = ("generator_ab", "generator_ba")


class ImageHistory(Protocol):
    """Images that a training remembers from step to step: trainer.training.image_pool.ImagePool."""

    @property
    def images(self) -> Tensor:
        """A copy of what is stored, (n, C, H, W)."""

    def restore(self, images: Tensor) -> None:
        """Replaces what is stored.

        Raises:
            ValueError: the images do not fit.
        """


@dataclass(kw_only=True)
class TrainingState(ABC):
    """All that a checkpoint holds, besides torch's random state."""

    device: torch.device
    step: int = 0  # batches of real images seen
    images_seen: int = 0  # real images in them

    COUNTERS: ClassVar[tuple[str, ...]] = ()  # fields that are whole numbers of a subclass's own

    @property
    @abstractmethod
    def networks(self) -> Mapping[str, nn.Module]:
        """By the name that a checkpoint gives them; averages included."""

    @property
    @abstractmethod
    def optimizers(self) -> Mapping[str, Optimizer]:
        """By the name that a checkpoint gives them."""

    @property
    def pools(self) -> Mapping[str, ImageHistory]:
        """Histories of fakes, if the training keeps any."""
        return {}

    @property
    def grows(self) -> bool:
        """Whether some parameters are trained later than others."""
        return False

    @property
    def counters(self) -> dict[str, int]:
        """The subclass's own whole numbers."""
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
    """Sets the state, and torch's random state, from such tensors; steps and counters are the caller's to set.

    Raises:
        UserError: they do not fit the networks and optimisers of `state`.
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
    """The tensors whose names begin with `prefix` and a dot, without these."""
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}


def _restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor], *, may_lack: bool) -> None:
    """Fused optimisers read and write moments without checking them, so a wrong shape would corrupt memory.

    Parameters that were not trained yet have no moments; if not `may_lack`, all have them or none.
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
        raise ValueError("the moments of the optimiser are not those of its parameters")
    for index, found in moments.items():
        shapes = {name: torch.Size() if name == "step" else parameters[index].shape for name in names}
        if {name: moment.shape for name, moment in found.items()} != shapes or any(
            moment.dtype != torch.float32 for moment in found.values()
        ):
            raise ValueError(f"the moments of parameter {index} do not fit its optimiser")
    for index, found in moments.items():  # a fused optimiser takes it for granted that they lie in memory alike
        moments[index] = {
            name: moment if name == "step" else torch.empty_like(parameters[index]).copy_(moment)
            for name, moment in found.items()
        }
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


def _moment_names(optimizer: Optimizer) -> tuple[str, ...]:
    if isinstance(optimizer, Adam):
        return ("step", "exp_avg", "exp_avg_sq")
    return ("step", "square_avg") if isinstance(optimizer, RMSprop) else ()
