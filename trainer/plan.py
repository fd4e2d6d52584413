"""What a user sees before training: the data, the settings that decide the time, and how long it will take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

from trainer.config import AnyConfig, CycleConfig
from trainer.data.dataset_names import without_path
from trainer.data.inspection import Inspection
from trainer.errors import UserError
from trainer.memory import peak_memory_gb
from trainer.models import flag_size, makes_size, shown_size
from trainer.models.architecture import nearest_sizes
from trainer.parallel import world_size
from trainer.progress import Progress
from trainer.training.estimate import estimate_s, total_steps
from trainer.training.kinds import Data

_FAR_FROM_SQUARE: Final = 1.2  # width / height, or height / width
_FEWEST_STEPS: Final = 100  # a shorter run takes hardly longer than timing it
_LARGEST_SUGGESTED: Final = 128  # pixels


@dataclass(frozen=True)
class Plan:
    """A config with its data, before training.

    Args:
        config: the resolved settings.
        data: at the size of the config.
        inspection: of the user's own pictures; None for a built-in data set.
        device: to train on.
    """

    config: AnyConfig
    data: Data
    inspection: Inspection | None
    device: torch.device

    def tell(self, progress: Progress) -> None:
        """Prints the data, the plan and the estimated time, from a few timed steps."""
        if self.inspection is not None:
            for line in self.inspection.lines(self.config.network.size, domains=isinstance(self.config, CycleConfig)):
                progress.say(line)
            if (shape := self.shape(self.inspection)) is not None:
                progress.say(shape)
        progress.say(self.settings())
        if (changes := self.changes()) is not None:
            progress.say(changes)
        if (time_text := self.time()) is not None:
            progress.say(time_text)

    def settings(self) -> str:
        """The settings that decide the time: "240 images, 32x32 in colour, batch 32, 1,500 steps"."""
        config, size = self.config, self.config.network.size
        steps = total_steps(config, self.data.images_per_epoch)
        length = f"{steps:,} steps" if steps is not None else f"{config.images:,} images"
        order = "" if size[0] == size[1] else " (height x width)"
        colours = "gray" if self.data.channels == 1 else "in colour"
        parts = [self.data.summary, f"{shown_size(size)}{order} {colours}", f"batch {config.batch_size}", length]
        skipped = f" ({len(self.data.skipped)} unreadable)" if self.data.skipped else ""
        return f"{config.model} on {without_path(config.dataset)}{skipped}: {', '.join(parts)}"

    def shape(self, inspection: Inspection) -> str | None:
        """The size that keeps the shape of pictures most of which are far from square; None if they are not."""
        network = self.config.network
        side = network.image_size
        if network.size != (side, side) or 1 / _FAR_FROM_SQUARE < inspection.aspect < _FAR_FROM_SQUARE:
            return None
        shrink = max(inspection.aspect, 1 / inspection.aspect)
        short = round(side / shrink)
        wanted = (side, short) if inspection.aspect < 1 else (short, side)
        size = nearest_sizes(wanted, makes_size(network))[0]
        if size[0] == size[1]:  # the network makes only squares
            return None
        return f"--image-size {shown_size(size)} (height x width) keeps more of each picture"

    def changes(self) -> str | None:
        """How the images are changed at random, and the flags against it; None if they are not."""
        config = self.config
        changes = {"mirrored": "--no-mirror"} if config.mirror else {}
        if not isinstance(config, CycleConfig) and config.augment:
            changes["augmented"] = "--augment none"
        return f"{' and '.join(changes)} at random; without: {' '.join(changes.values())}" if changes else None

    def time(self) -> str | None:
        """The estimated time and the memory so far; None for a short, distributed or compiled run."""
        config = self.config
        steps = total_steps(config, self.data.images_per_epoch)
        if world_size() > 1 or config.compile_networks or (steps is not None and steps < _FEWEST_STEPS):
            return None
        seconds = estimate_s(config, self.data, self.device)
        text = f"about {_duration(seconds)} on this machine, {self._memory_gb():.1f} GB of memory"
        height, width = config.network.size
        larger = (2 * height, 2 * width)
        if self.inspection is None or min(larger) > min(_LARGEST_SUGGESTED, self.inspection.short_side):
            return text
        try:
            other = estimate_s(config, self.data, self.device, size=larger)
        except UserError:  # the networks have no such size
            return text
        return f"{text}; --image-size {flag_size(larger)} takes about {_duration(other)}"

    def _memory_gb(self) -> float:
        memory = peak_memory_gb(self.device)
        return memory.get("cuda_allocated_gb", memory["process_gb"])


def _duration(seconds: float) -> str:
    """A rounded duration: "40 seconds", "5 minutes", "2.5 hours"."""
    for unit, length in (("day", 86400.0), ("hour", 3600.0), ("minute", 60.0)):
        if seconds >= 0.95 * length:
            count = round(seconds / length, 1 if seconds < 5 * length and unit != "minute" else 0)
            return f"{count:g} {unit}{'' if count == 1 else 's'}"
    return f"{max(1, round(seconds))} seconds"
