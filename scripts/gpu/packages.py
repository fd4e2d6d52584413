"""The packages to carry, at the versions of requirements.lock.

The machine has PyTorch with its CUDA libraries, torchvision, onnx, scikit-learn, matplotlib and what these need. It may
have others, at versions that do not fit: those here come first on PYTHONPATH.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

CARRIED: Final = (
    # server, client and contracts
    "onnxruntime-gpu",
    "grpcio",
    "grpcio-health-checking",
    "grpcio-reflection",
    "protobuf",
    "click",
    "rich",
    "markdown-it-py",
    "mdurl",
    "pygments",
    "msgspec",
    "prometheus-client",
    "tritonclient",
    "python-rapidjson",
    "uvicorn",
    "h11",
    # trainer and exporter
    "filelock",
    "rich-click",
    "safetensors",
    "tensorboard",
    "tensorboard-data-server",
    "absl-py",
    "markdown",
    "werkzeug",
    "torchmetrics",
    "lightning-utilities",
    "onnxscript",
    "onnx-ir",
    "flatbuffers",
    # tests
    "hypothesis",
    "sortedcontainers",
    "pytest-asyncio",
    "pytest-timeout",
)
_PIN: Final = re.compile(r"^([a-z0-9][a-z0-9._-]*)(?:\[[a-z,]*\])?==([^\s;\\]+)(?: ; (.*?))?(?: \\)?$", re.MULTILINE)


def pins(lock: Path, names: tuple[str, ...] = CARRIED) -> list[str]:
    """The lines `name==version` of a lock file for these packages.

    Raises:
        ValueError: a package is not in the file.
    """
    versions: dict[str, str] = {}
    for name, version, marker in _PIN.findall(lock.read_text()):
        if "python_full_version < '3.12'" not in marker:
            versions.setdefault(name, version)
    missing = [name for name in names if name not in versions]
    if missing:
        raise ValueError(f"{lock}: has no {', '.join(missing)}")
    return [f"{name}=={versions[name]}" for name in names]
