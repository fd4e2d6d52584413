"""TensorBoard event files in a run folder: `tensorboard --logdir RUN`, or a folder of runs.

The package writes events in its own thread. A resume purges the events that a killed process wrote after the
checkpoint: readers ignore events in earlier files from the first step of a newer file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from trainer.runs.run_log import RunLog

_FLUSH_S = 30  # the longest delay for readers


class TensorBoardLog(RunLog):
    """Writes event files.

    Args:
        folder: for the files; created if needed.
        step: of the checkpoint that the run continues from; 0 for a new run.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter  # takes half a second to import

        # Also for a new run: the first purge mark in a folder is only the start; readers purge at later ones.
        self._writer = SummaryWriter(folder, purge_step=step + 1, flush_secs=_FLUSH_S)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """See `RunLog`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def text(self, step: int, name: str, line: str) -> None:
        """See `RunLog`."""
        self._writer.add_text(name, line, step)

    def image(self, step: int, name: str, image: Image.Image) -> None:
        """See `RunLog`."""
        pixels = np.asarray(image.convert("RGB"))
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def flush(self) -> None:
        """See `RunLog`."""
        self._writer.flush()

    def close(self) -> None:
        """See `RunLog`."""
        self._writer.close()
