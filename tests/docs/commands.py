"""Runs the commands of a page of docs/ in this process."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from trainer.metrics import classifier


@dataclass(frozen=True)
class Done:
    """The result of a command."""

    exit_code: int
    stdout: str
    stderr: str


def commands(text: str) -> list[str]:
    """The commands of a page, in order: the lines of its console blocks that begin with a prompt."""
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def run(command: str, folder: Path, address: str = "") -> Done:
    """Runs a command in a folder; shortens training runs.

    Runs its module as `python -m` does, but here: importing torch anew takes longer than any of the commands.
    """
    words = shlex.split(command)
    if words[:3] == ["python", "-m", "trainer"] and "--dry-run" not in words:
        if "--resume" in words:
            words[words.index("--steps") + 1] = "4"
        else:
            words += ["--steps", "2", "--width", "0.05", "--batch-size", "8"]
    module, *arguments = ["client", *words[1:]] if words[0] == "ganclient" else words[2:]
    stdout, stderr, exit_code = io.StringIO(), io.StringIO(), 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        patch.setenv("GANSERVE_ADDRESS", address)
        patch.setattr(sys, "argv", [module, *arguments])
        patch.setattr(classifier, "_MOST_SHOWN", 512)  # the commands do not test training
        try:
            for imported in (f"{module}.__main__", "my_nets"):  # by other tests
                patch.delitem(sys.modules, imported, raising=False)
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            exit_code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return Done(exit_code, stdout.getvalue(), stderr.getvalue())
