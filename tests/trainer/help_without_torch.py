"""Prints the help of a command in a process of its own, which must not import torch."""

from __future__ import annotations

import subprocess
import sys


def help_without_torch(module: str) -> str:
    """What `python -m trainer.X --help` prints; fails if that imports a slow library."""
    code = (
        f"import sys; from {module}.__main__ import main; main(['--help'], standalone_mode=False);"
        "assert not {'torch', 'numpy', 'matplotlib'} & sys.modules.keys()"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
