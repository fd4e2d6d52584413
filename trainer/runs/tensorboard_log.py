"""TensorBoard event files in a run folder: `tensorboard --logdir RUN`, or a folder of runs.

The package writes events in its own thread. A resume purges the events that a killed process wrote after the
checkpoint: readers ignore events in earlier files from the first step of a newer file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from trainer.config import AnyConfig
from trainer.runs.run_log import RunLog, public_settings

_FLUSH_S = 30  # the longest delay for readers
_MEASURED = ("sliced_wasserstein_distance", "ms_ssim", "frechet_distance", "precision", "recall")  # in training


def _hyperparameters(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, bool | float | str]]:
    """The settings by their names in config.json, such as network.width; lists as text, without what is not set."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _hyperparameters(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value if isinstance(value, bool | int | float | str) else str(value)


class TensorBoardLog(RunLog):
    """Writes event files.

    Args:
        folder: for the files; created if needed.
        step: of the checkpoint that the run continues from; 0 for a new run.
        config: the settings.
    """

    def __init__(self, folder: Path, step: int, config: AnyConfig) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter  # takes half a second to import

        # Also for a new run: the first purge mark in a folder is only the start; readers purge at later ones.
        self._writer = SummaryWriter(folder, purge_step=step + 1, flush_secs=_FLUSH_S)
        if step == 0:
            self._describe(config)

    def _describe(self, config: AnyConfig) -> None:
        """Adds the settings of the run: as text, and to the table of hyperparameters, beside the metrics of the end."""
        settings = public_settings(config)
        content = msgspec.json.format(msgspec.json.encode(settings), indent=2).decode()
        self._writer.add_text("config", f"```json\n{content}\n```", 0)
        metrics = dict.fromkeys((config.score_metric, *(_MEASURED if config.takes_latents else config.METRICS)))
        columns = {f"evaluation/{name}": 0.0 for name in metrics}  # the values come from the curves of these names
        from torch.utils.tensorboard.summary import hparams

        # Not add_hparams, which would write them as a run of its own.
        for summary in hparams(dict(_hyperparameters(settings)), columns):  # type: ignore[no-untyped-call]
            self._writer._get_file_writer().add_summary(summary, 0)  # type: ignore[no-untyped-call]

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
