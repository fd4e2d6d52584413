"""The event files of TensorBoard in a run's folder: `tensorboard --logdir RUN`, or a folder of runs.

Events are written by a thread of the package's own. After a resume, what a killed process wrote beyond the checkpoint
is purged: readers leave out the events of earlier files from the step on where a new file begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from trainer.runs.run_log import RunLog

_FLUSH_S = 30  # what is read from outside lags by at most so much


class TensorBoardLog(RunLog):
    """Writes event files.

    Args:
        folder: where to; made if it is not there.
        step: of the checkpoint that the training goes on from; 0 at its beginning.
    """

    def __init__(self, folder: Path, step: int) -> None:
        # Half a second to import, which a wrong flag need not wait for.
        from torch.utils.tensorboard.writer import SummaryWriter

        # At the beginning too: a reader takes the first such mark of a folder for the beginning, and the others only
        # for a resume that purges.
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
