"""Snapshots: the generator of a run at chosen steps, in addition to its checkpoints.

    <run>/snapshots/step-00000100.safetensors    weights and buffers of the generator itself, not its average

The sources sample the generator itself, so the claims are not about its average.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ganserve.files import replace_file
from trainer.config import AnyConfig
from trainer.runs.run_folder import RunFolder, RunFolderError
from trainer.runs.state import section
from trainer.training.base import Training
from trainer.training.gan_step import GanState

_GENERATOR = "generator"  # its name in checkpoints
_FOLDERS = ("snapshots", "looks")  # runs of older versions have "looks"
_NAME = re.compile(r"step-([0-9]{8,12})\.safetensors")


def keep_snapshots(run: RunFolder, steps: Collection[int]) -> Callable[[Training], None]:
    """A callback for the training loop that saves the generator at these steps."""
    folder = run.path / _FOLDERS[0]
    folder.mkdir(exist_ok=True)
    wanted = frozenset(steps)

    def after_step(training: Training) -> None:
        state = training.state
        if state.step in wanted and isinstance(state, GanState):
            tensors = {name: each.cpu().contiguous() for name, each in state.generator.state_dict().items()}
            replace_file(folder / f"step-{state.step:08d}.safetensors", save(tensors))

    return after_step


def kept_steps(run: RunFolder) -> set[int]:
    """The steps whose generator is available: the snapshots, and the last checkpoint.

    Raises:
        RunFolderError: the checkpoint is damaged.
    """
    paths = (path for folder in _FOLDERS for path in (run.path / folder).glob("step-*.safetensors"))
    names = (_NAME.fullmatch(path.name) for path in paths)
    kept = {int(match[1]) for match in names if match is not None}
    return kept | ({last_step(run)} if run.checkpoint_path("last").is_file() else set())


def last_step(run: RunFolder) -> int:
    """The step of the last checkpoint; 0 if there is none."""
    return run.read_metadata().step if run.checkpoint_path("last").is_file() else 0


def load_snapshot(run: RunFolder, config: AnyConfig, step: int) -> nn.Module:
    """The generator at a step of `kept_steps`, on the CPU in eval mode: running statistics, no dropout.

    Raises:
        RunFolderError: the file is damaged, or does not fit the config.
    """
    paths = [run.path / folder / f"step-{step:08d}.safetensors" for folder in _FOLDERS]
    path = next((each for each in paths if each.is_file()), run.checkpoint_path("last"))
    try:
        tensors = _read(path)
        if path == run.checkpoint_path("last"):
            tensors = section(tensors, _GENERATOR)
        generator = config.build_generator()
        generator.load_state_dict(tensors)
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise RunFolderError(f"{path}: not a generator of this run ({reason})") from error
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise RunFolderError(f"{path}: some weights are NaN or infinite")
    return generator.eval().requires_grad_(False)


def _read(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
