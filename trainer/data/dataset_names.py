"""Names of data sets without the path on this machine, which may be private."""

from __future__ import annotations

import re
from pathlib import Path

_UNNAMED = "pictures"  # of files whose name has no letter or digit of ASCII


def without_path(dataset: str) -> str:
    """Returns "folder:faces" for "folder:/home/me/faces", "zip:faces" for "zip:/home/me/faces.zip"; others as is."""
    kind, colon, path = dataset.partition(":")
    return f"{kind}:{_last_part(kind, path)}" if colon else dataset


def slug_of(dataset: str) -> str:
    """A data set's name in lower-case letters, digits and hyphens, for files and models: "my-pictures", "mnist"."""
    kind, colon, path = dataset.partition(":")
    name = _last_part(kind, path) if colon else kind
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or _UNNAMED


def _last_part(kind: str, path: str) -> str:
    resolved = Path(path).resolve()  # "folder:." is named after the folder
    return resolved.stem if kind == "zip" else resolved.name
