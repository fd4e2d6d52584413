from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.gpu.commands import CommandFailed, finish


def test_a_failure_is_named_by_the_last_line_that_says_something() -> None:
    program = "import sys; print('loading'); print('error: no memory'); print('======'); print(); sys.exit(3)"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    with pytest.raises(CommandFailed, match=r"^exit code 3: error: no memory$"):
        finish(process)


def test_a_failure_without_output_is_named_too() -> None:
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(4)"], stdout=subprocess.PIPE, text=True)
    with pytest.raises(CommandFailed, match=r"^exit code 4: no output$"):
        finish(process)
