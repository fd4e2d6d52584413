"""Follows the remedy of every refusal: whoever does what a message says must not be sent back."""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch import nn

from exporter.__main__ import main
from tests.exporter.test_torchscript_weights import save_torchscript
from tests.exporter.tutorial_files import TutorialNetG, trained_netg


class Options:
    """A class of a training script."""


def other() -> dict[str, Any]:
    return nn.Conv2d(1, 1, 3).state_dict()


def pickled(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


# Files that hold the tutorial's generator in some form; a module can be saved with its code.
FILES: dict[str, Callable[[TutorialNetG, Path], object]] = {
    "state dict": lambda g, path: torch.save(g.state_dict(), path),
    "safetensors": lambda g, path: save_file(g.state_dict(), path),
    "torchscript": lambda g, path: save_torchscript(g.eval(), path, "trace", torch.zeros(2, 100, 1, 1)),
    "checkpoint": lambda g, path: torch.save({"netG": g.state_dict(), "netD": other(), "epoch": 3}, path),
    "namespace": lambda g, path: torch.save({"netG": g.state_dict(), "opt": argparse.Namespace(nz=100)}, path),
    "class of a script": lambda g, path: torch.save({"netG": g.state_dict(), "opt": Options()}, path),
    "two that fit": lambda g, path: torch.save({"netG_A": g.state_dict(), "netG_B": g.state_dict()}, path),
    "module": torch.save,
    "module in DataParallel": lambda g, path: torch.save(nn.DataParallel(g), path),
    "modules": lambda g, path: torch.save({"G": g, "D": nn.Conv2d(1, 1, 3)}, path),
    "module by pickle.dump": pickled,
    "weights by pickle.dump": lambda g, path: pickled(g.state_dict(), path),
    "modules by pickle.dump": lambda g, path: pickled({"G": g, "G_ema": g}, path),
}
MODULE = ["--module", "tests.exporter.tutorial_files:TutorialNetG", "--module-kwargs", '{"ngf": 1}']
STARTS = {
    "--weights": [*MODULE, "--weights", "FILE", "--latent-dim", "100"],
    "--pickle": ["--pickle", "FILE", "--latent-dim", "100"],
    "--tutorial-netg": ["--tutorial-netg", "FILE"],
}


def follow(flags: list[str], message: str) -> list[str]:
    """The flags after what a refusal says."""
    if "add --allow-pickle" in message:
        return [*flags, "--allow-pickle"]
    if key := re.search(r"choose one with --weights-key (\S+),", message):
        return [*flags, "--weights-key", key[1]]
    if "give it with --weights, and its class with --module" in message:
        kept = [flag for flag in flags if flag == "--allow-pickle"]
        return [*STARTS["--weights"], *kept]
    raise AssertionError(f"a refusal without a remedy that a reader can follow: {message}")


@pytest.mark.usefixtures("without_onnx")
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("kind", FILES)
def test_whoever_follows_the_remedies_arrives(
    kind: str, start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    FILES[kind](trained_netg(ngf=1), tmp_path / "FILE")
    flags, tried = STARTS[start], []
    while True:
        assert flags not in tried, "sent back to flags that were refused before"
        tried.append(flags)
        result = CliRunner().invoke(main, [*flags, "--name", "mine"])
        if not result.exit_code:
            break
        errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
        assert len(errors) == 1, result.output
        flags = follow(flags, errors[0])
    assert len(tried) <= 4
