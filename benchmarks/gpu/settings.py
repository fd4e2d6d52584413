"""The settings of one stage."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Settings:
    """What a stage needs to know.

    Args:
        work: its folder, for runs and models.
        data: the folder of the data sets.
        ends_s: when it must have ended, on the clock `time.monotonic`.
        is_dry: on a CPU, as small as possible, with stand-ins for CUDA.
    """

    work: Path
    data: Path
    ends_s: float
    is_dry: bool

    @property
    def keep(self) -> Path:
        """The folder of pictures and tables to bring home."""
        folder = self.work / "keep"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def device_name(self) -> str:
        """As the flag --device takes it."""
        return "cpu" if self.is_dry else "cuda"

    @property
    def tiny_flags(self) -> list[str]:
        """Flags of the trainer for a dry run: a narrow network, small batches and few images to score."""
        return ["--width", "0.1", "--batch-size", "8", "--eval-images", "16"] if self.is_dry else []

    @property
    def device(self) -> torch.device:
        """Where PyTorch computes."""
        import torch

        return torch.device(self.device_name)

    @property
    def left_s(self) -> float:
        """The seconds left."""
        return self.ends_s - time.monotonic()

    def choose(self, measured: float, dry: float) -> float:
        """`dry` in a dry run, else `measured`."""
        return dry if self.is_dry else measured
