"""The file that tells a run folder from others. Without torch, so that a command refuses another folder at once."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from trainer.errors import RunFolderError

CONFIG_FILE: Final = "config.json"


def check_is_run(path: Path) -> None:
    """Raises RunFolderError if a folder is not that of a run."""
    if not (path / CONFIG_FILE).is_file():
        raise RunFolderError(
            f"{path}: not a run folder (it has no {CONFIG_FILE}); give the folder that the trainer printed"
        )
