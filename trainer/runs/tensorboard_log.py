"""TensorBoard event files in a run folder: `tensorboard --logdir RUN`, or a folder of runs.

The package writes events in a thread of its own. After a resume, events that a killed process wrote beyond the
checkpoint are purged: readers ignore events of earlier files from the step on where a new file begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from trainer.runs.run_log import RunLog

_FLUSH_S = 30  # the longest that readers lag behind


class TensorBoardLog(RunLog):
    """Writes event files.

    Args:
        folder: for the files; created if needed.
        step: of the checkpoint that the run continues from; 0 for a new run.
    """

    def __init__(self, folder: Path, step: int) -> None:
        # Takes half a second to import.
        from torch.utils.tensorboard.writer import SummaryWriter

        # Also for a new run: readers take the first such mark in a folder for the start, and only later ones purge.
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
