"""Owner of the run folder contract: what a run leaves on disk, and how it is read back.

    config.json                          the resolved TrainConfig
    metrics.jsonl                        one JSON object a line; `kind` is "step" or "evaluation"
    samples/step-00001000.png            grids of the same latents, through the averaged generator
    figures/                             curves and pictures drawn from the above
    checkpoints/{last,best}.safetensors  networks, average, optimisers, random state; metadata as JSON in the header

Every file but metrics.jsonl is replaced by one rename, and metrics.jsonl is cut back to the checkpoint on resuming, so
a kill at any instant leaves a run that goes on as if nothing had happened. Nothing here is pickled.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from trainer.config import TrainConfig, check_config, to_json
from trainer.errors import RunFolderError, UserError
from trainer.models import build_generator
from trainer.state_tensors import EMA_PREFIX, restore_state, section, state_to_tensors
from trainer.step import TrainingState

__all__ = [
    "CheckpointMetadata",
    "ExportedRun",
    "RunFolder",
    "RunFolderError",
    "Which",
    "load_generator",
    "replace_file",
]

Which = Literal["best", "last"]
Count = Annotated[int, msgspec.Meta(ge=0, le=10**15)]
_METADATA_KEY = "ganserve"


class CheckpointMetadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a checkpoint knows besides tensors."""

    schema_version: Literal[1] = 1
    step: Count
    generator_steps: Count
    critic_steps_since_generator: Count
    images_seen: Count
    train_seconds: Annotated[float, msgspec.Meta(ge=0, le=1e10)]
    best_score: float | None  # of the best checkpoint so far
    score: float | None  # of this checkpoint, if it was evaluated
    data_images: Count
    data_sha256: str  # of all decoded pixels, so that a resumed run is known to go on with the same data


@dataclass(frozen=True)
class ExportedRun:
    """What the exporter needs of a run."""

    generator: nn.Module  # averaged weights, eval mode, on the CPU: (N, latent_dim) -> (N, C, H, W) in [-1, 1]
    model: str
    preset: str
    architecture: str
    dataset: str
    latent_dim: int
    channels: int
    image_size: int
    training: dict[str, float | int | str | None]


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.samples = path / "samples"
        self.figures = path / "figures"
        self.metrics = path / "metrics.jsonl"
        self._config = path / "config.json"

    @classmethod
    def create(cls, out: Path, config: TrainConfig) -> RunFolder:
        """Makes the next numbered folder under `out`, such as 0003-dcgan-digits, and writes the config."""
        data = config.dataset.partition(":")
        label = Path(data[2]).stem if data[2] else data[0]
        name = f"{config.model}-{re.sub(r'[^A-Za-z0-9]+', '-', label).strip('-').lower()}"
        try:
            out.mkdir(parents=True, exist_ok=True)
            hidden = cls(Path(tempfile.mkdtemp(prefix=".new-", dir=out)))  # a folder that shows is a whole one
            hidden.path.chmod(0o755)
            hidden._make_folders()
            hidden.metrics.touch()
            hidden.write_config(config)
            taken = [int(match[1]) for entry in out.iterdir() if (match := re.match(r"(\d{4,9})-", entry.name))]
            number = max(taken, default=0)
            while True:
                number += 1
                path = out / f"{number:04d}-{name}"
                try:
                    hidden.path.rename(path)
                    return cls(path)
                except OSError:
                    if not path.exists():  # so another run did not take the number just now
                        raise
        except OSError as error:
            raise RunFolderError(f"--out {out}: cannot be written to ({error.strerror})") from error

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Opens an existing run folder.

        Raises:
            RunFolderError: it is not one.
        """
        run = cls(path)
        if not run._config.is_file():
            raise RunFolderError(
                f"{path}: not a run folder (it has no config.json); give the folder a training printed"
            )
        return run

    def clean_up(self) -> None:
        """Makes what a copy may have lost (empty folders), and removes what a kill left; for who owns the run now."""
        self._make_folders()
        for leftover in self.path.rglob(".*.tmp"):
            leftover.unlink()

    def write_config(self, config: TrainConfig) -> None:
        """Writes config.json."""
        replace_file(self._config, (to_json(config) + "\n").encode())

    def read_config(self) -> TrainConfig:
        """Reads config.json strictly.

        Raises:
            RunFolderError: it is not a valid config of this version.
        """
        try:
            config = msgspec.json.decode(self._config.read_bytes(), type=TrainConfig)
            check_config(config)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError, UserError) as error:
            raise RunFolderError(f"{self._config}: not a valid config ({error})") from error
        return config

    def checkpoint_path(self, which: Which) -> Path:
        """Where a checkpoint lies, if it was written."""
        return self.path / "checkpoints" / f"{which}.safetensors"

    def append_metrics(self, rows: Iterable[dict[str, Any]]) -> None:
        """Appends rows to metrics.jsonl."""
        with self.metrics.open("ab") as file:
            file.write(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))

    def read_metrics(self) -> Iterator[dict[str, Any]]:
        """The rows of metrics.jsonl; a last line that a kill cut short is left out.

        Raises:
            RunFolderError: another line is not one that a run writes.
        """
        lines = self.metrics.read_bytes().split(b"\n") if self.metrics.is_file() else [b""]
        for number, line in enumerate(lines[:-1], 1):  # what follows the last newline is empty, or torn
            try:
                row: dict[str, Any] = msgspec.json.decode(line, type=dict[str, int | float | str | list[float] | None])
                if not isinstance(row.get("step"), int) or not isinstance(row.get("kind"), str):
                    raise msgspec.ValidationError("no kind, or no step")
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise RunFolderError(f"{self.metrics}, line {number}: not a line of metrics ({error})") from error
            yield row

    def rewind_metrics(self, step: int) -> None:
        """Drops rows after `step`, which a resumed run will write again."""
        kept = [row for row in self.read_metrics() if row["step"] <= step]
        replace_file(self.metrics, b"".join(msgspec.json.encode(row) + b"\n" for row in kept))

    def save_checkpoint(self, state: TrainingState, metadata: CheckpointMetadata, *, best: bool) -> None:
        """Replaces the last checkpoint, and the best one too if this is it."""
        content = save(state_to_tensors(state), {_METADATA_KEY: msgspec.json.encode(metadata).decode()})
        if best:
            replace_file(self.checkpoint_path("best"), content)
        replace_file(self.checkpoint_path("last"), content)

    def load_checkpoint(self, state: TrainingState) -> CheckpointMetadata:
        """Restores networks, optimisers, counters and torch's random state from the last checkpoint.

        Raises:
            RunFolderError: there is none yet, or it does not belong to this config.
        """
        path = self.checkpoint_path("last")
        metadata, tensors = _read(path)
        try:
            restore_state(state, tensors)
        except UserError as error:
            raise RunFolderError(f"{path}: does not fit this run's config.json ({error})") from error
        state.step = metadata.step
        state.generator_steps = metadata.generator_steps
        state.critic_steps_since_generator = metadata.critic_steps_since_generator
        return metadata

    def _make_folders(self) -> None:
        for folder in (self.samples, self.figures, self.path / "checkpoints"):
            folder.mkdir(exist_ok=True)


def load_generator(run: Path, which: Which) -> ExportedRun:
    """Loads the averaged generator of a run's best or last checkpoint, ready to export.

    Raises:
        RunFolderError: not a run folder, or it has no such checkpoint.
    """
    folder = RunFolder.open(run)
    config = folder.read_config()
    metadata, tensors = _read(folder.checkpoint_path(which))
    generator = build_generator(config.network)
    try:
        generator.load_state_dict(section(tensors, EMA_PREFIX))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise RunFolderError(f"{folder.checkpoint_path(which)}: does not fit config.json ({reason})") from error
    return ExportedRun(
        generator=generator.eval().requires_grad_(False),
        model=config.model,
        preset=config.preset,
        architecture=config.network.architecture,
        dataset=config.dataset.partition(":")[0],  # a path says nothing to others, and may be private
        latent_dim=config.network.latent_dim,
        channels=config.network.channels,
        image_size=config.network.image_size,
        training={
            "preset": config.preset,
            "step": metadata.step,
            "images_seen": metadata.images_seen,
            "sliced_wasserstein_distance": metadata.score,
            "seed": config.seed,
        },
    )


def replace_file(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _read(path: Path) -> tuple[CheckpointMetadata, dict[str, Tensor]]:
    if not path.is_file():
        raise RunFolderError(f"{path.parent.parent}: has no {path.stem} checkpoint yet; train it for longer")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_METADATA_KEY, "")
            metadata = msgspec.json.decode(text, type=CheckpointMetadata)
            return metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except (SafetensorError, msgspec.MsgspecError, OSError, UnicodeDecodeError, RecursionError) as error:
        raise RunFolderError(f"{path}: not a checkpoint, or a damaged one ({error})") from error
