"""The entry point: help that needs no torch."""

from __future__ import annotations

import subprocess
import sys


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys; from trainer.evaluate.__main__ import main; main(['--help'], standalone_mode=False);"
        "assert not {'torch', 'numpy', 'matplotlib'} & sys.modules.keys()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "--out" in result.stdout
