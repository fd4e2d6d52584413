"""The folder for files that can be made again: classifiers of data sets, and pixels that do not fit into memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

CACHE_VARIABLE: Final = "GANSERVE_CACHE"


def cache_folder() -> Path:
    """The cache: $GANSERVE_CACHE, or ~/.cache/ganserve."""
    given = os.environ.get(CACHE_VARIABLE)
    return Path(given) if given else Path.home() / ".cache" / "ganserve"
