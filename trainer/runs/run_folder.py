"""The run folder: what a run writes to disk, and how it is read back.

    config.json                          the resolved TrainConfig
    data.json                            what the data set holds, and what was left out of it
    metrics.jsonl                        one JSON object per line; see metrics_log.py
    evaluations.jsonl                    the same, for checkpoints scored after training; see trainer/evaluate
    samples/step-00001000.png            grids of the same latents, through the averaged generator
    figures/                             curves and figures drawn from the above
    checkpoints/{last,best}.safetensors  networks, averages, optimisers, random state; metadata as JSON in the header
    snapshots/step-00000100.safetensors  generators at some steps; benchmarks/claims keeps them
    checkpoints/epoch-0007.safetensors   networks alone, after that epoch; image-to-image models keep these
    tensorboard/                         the same curves, scores and samples as events
    .lock                                held by the trainer that writes to the folder

A file is replaced by one rename. The exceptions are metrics.jsonl, which --resume cuts back to the checkpoint, and the
events, whose readers ignore later ones. So a run that is killed at any time resumes as if it had never stopped. Nothing
is pickled.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ganserve.files import replace_file
from trainer.config import AnyConfig, from_json, to_json
from trainer.data.dataset_names import slug_of, without_path
from trainer.errors import RunFolderError, UserError
from trainer.models.architecture import Size
from trainer.models.latent_layer import with_plain_layers
from trainer.models.progressive import ProgressiveGenerator, plain
from trainer.runs.config_file import CONFIG_FILE, check_is_run
from trainer.runs.folder_lock import FolderLock
from trainer.runs.metrics_log import MetricsLog
from trainer.runs.state import (
    TrainingState,
    network_tensors,
    restore_state,
    section,
    state_to_tensors,
)

__all__ = ["CheckpointMetadata", "ExportedRun", "RunFolder", "RunFolderError", "load_generators"]

Count = Annotated[int, msgspec.Meta(ge=0, le=10**15)]
_METADATA_KEY = "ganserve"
_UNNAMED_DATASET = "digits"  # its models are called "dcgan", not "digits-dcgan"
_MAX_MODEL_NAME = 64  # characters, in a model repository
_MAX_SLUG = 40  # characters of the data set in the name of a run
_CHECKPOINT_NAME = re.compile(r"best|last|epoch-[0-9]{4,9}")


class CheckpointMetadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The metadata of a checkpoint: everything except tensors."""

    schema_version: Literal[2] = 2
    step: Count
    images_seen: Count
    counters: dict[str, Count]
    train_seconds: Annotated[float, msgspec.Meta(ge=0, le=1e10)]
    output_size: Annotated[int, msgspec.Meta(ge=1, le=1 << 14)]  # pixels; height of the images that the networks make
    fade: Annotated[float, msgspec.Meta(ge=0, le=1)]  # weight of the newest stage of a growing network, else 1
    # Of this checkpoint; empty if it was not evaluated. None: a number that is not finite.
    metrics: dict[str, float | None] = msgspec.field(name="figures")
    best_score: float | None  # so far, among checkpoints with the largest images
    best_size: Count
    # Step of the last save that follows from the step alone, so not of one at an interruption.
    planned_step: Count = msgspec.field(name="epoch_step")
    data_images: Count
    data_sha256: str  # of all decoded pixels; --resume compares it


@dataclass(frozen=True)
class ExportedRun:
    """One network of a run, for the exporter."""

    # Eval mode, on the CPU: latents (N, latent_dim), or images (N, channels, height, width) in [-1, 1], ->
    # images (N, channels, height, width) in about [-1, 1].
    network: nn.Module
    name: str  # default in a model repository: "dcgan", "cyclegan-a2b", "my-pictures-dcgan"; see `_model_name`
    suffix: str  # appended to a name that the user gives: "", "-a2b"
    model: str
    preset: str
    architecture: str
    dataset: str
    latent_dim: int  # 0 for a network that takes images
    channels: int
    size: Size
    training: dict[str, float | int | str | None]


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.samples = path / "samples"
        self.figures = path / "figures"
        self.tensorboard = path / "tensorboard"
        self.metrics = MetricsLog(path / "metrics.jsonl")
        self.evaluations = MetricsLog(path / "evaluations.jsonl")
        self._config = path / CONFIG_FILE
        self._data = path / "data.json"
        self._lock = FolderLock(path)

    @classmethod
    def create(cls, out: Path, config: AnyConfig) -> RunFolder:
        """Creates the next numbered folder under `out`, such as 0003-dcgan-digits, and writes the config.

        Raises:
            RunFolderError: `out` is not writable.
        """
        name = f"{config.model}-{slug_of(config.dataset)[:_MAX_SLUG].rstrip('-')}"
        try:
            out.mkdir(parents=True, exist_ok=True)
            hidden = cls(Path(tempfile.mkdtemp(prefix=".new-", dir=out)))  # renamed when it is complete
            hidden.path.chmod(0o755)
            hidden._make_folders()
            hidden.metrics.path.touch()
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
                    if not path.exists():  # otherwise another run took the number first
                        raise
        except OSError as error:
            raise RunFolderError(f"--out {out}: cannot be written to ({error.strerror})") from error

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Opens an existing run folder.

        Raises:
            RunFolderError: it has no config.json.
        """
        run = cls(path)
        check_is_run(path)
        return run

    def locked(self) -> AbstractContextManager[bool]:
        """Keeps other trainers out of the folder; yields False if its file system has no locks. May be nested.

        Raises:
            RunFolderError: another trainer writes to it.
            OSError: it is not writable.
        """
        return self._lock.held(
            RunFolderError(
                f"{self.path}: another trainer writes to this run; wait for it, or stop it and resume the run then"
            )
        )

    def clean_up(self) -> None:
        """Recreates empty folders that a copy may lack, and removes temporary files of a killed process."""
        self._make_folders()
        for leftover in self.path.rglob(".*.tmp"):
            leftover.unlink()

    def write_config(self, config: AnyConfig) -> None:
        """Writes config.json."""
        replace_file(self._config, (to_json(config) + "\n").encode())

    def write_data(self, about: Mapping[str, Any]) -> None:
        """Writes data.json: facts about the data set, as plain values."""
        replace_file(self._data, msgspec.json.format(msgspec.json.encode(about), indent=2) + b"\n")

    def read_config(self) -> AnyConfig:
        """Reads config.json strictly.

        Raises:
            RunFolderError: it is missing, or not a valid config of this version.
        """
        try:
            config = from_json(self._config.read_bytes())
            config.check()
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError, UserError) as error:
            raise RunFolderError(f"{self._config}: not a valid config of this version of ganserve ({error})") from error
        return config

    def checkpoint_path(self, which: str) -> Path:
        """The path of a checkpoint, which need not exist; `which` is best, last or epoch-0007.

        Raises:
            RunFolderError: `which` names no checkpoint.
        """
        if not _CHECKPOINT_NAME.fullmatch(which):
            raise RunFolderError(f"--checkpoint {which!r}: choose best, last or, for runs that keep epochs, epoch-0001")
        return self.path / "checkpoints" / f"{which}.safetensors"

    def save_checkpoint(self, state: TrainingState, metadata: CheckpointMetadata, *, best: bool) -> None:
        """Replaces the last checkpoint, and also the best one if `best`."""
        content = save(state_to_tensors(state), {_METADATA_KEY: msgspec.json.encode(metadata).decode()})
        if best:
            replace_file(self.checkpoint_path("best"), content)
        replace_file(self.checkpoint_path("last"), content)

    def keep_networks(self, state: TrainingState, metadata: CheckpointMetadata, epoch: int) -> None:
        """Writes the networks of an epoch to a separate file, without the rest of the state."""
        content = save(network_tensors(state), {_METADATA_KEY: msgspec.json.encode(metadata).decode()})
        replace_file(self.checkpoint_path(f"epoch-{epoch:04d}"), content)

    def read_metadata(self, which: str = "last") -> CheckpointMetadata:
        """The metadata of a checkpoint.

        Raises:
            RunFolderError: there is no such checkpoint yet, or it is damaged.
        """
        return _read(self.checkpoint_path(which))[0]

    def read_checkpoint(self, which: str) -> tuple[CheckpointMetadata, dict[str, Tensor]]:
        """The metadata and all tensors of a checkpoint; raises as `read_metadata`."""
        return _read(self.checkpoint_path(which))

    def load_checkpoint(self, state: TrainingState) -> CheckpointMetadata:
        """Restores networks, optimisers, counters and torch's random state from the last checkpoint.

        Raises:
            RunFolderError: there is no checkpoint yet, or it does not belong to this config.
        """
        path = self.checkpoint_path("last")
        metadata, tensors = self.read_checkpoint("last")
        try:
            if set(metadata.counters) != set(state.counters):
                raise UserError(f"its counters are {', '.join(metadata.counters) or 'missing'}")
            restore_state(state, tensors)
        except UserError as error:
            raise RunFolderError(f"{path}: does not fit this run's config.json ({error})") from error
        state.step, state.images_seen = metadata.step, metadata.images_seen
        for name, count in metadata.counters.items():
            setattr(state, name, count)
        return metadata

    def _make_folders(self) -> None:
        for folder in (self.samples, self.figures, self.path / "checkpoints"):
            folder.mkdir(exist_ok=True)


def load_generators(run: Path, which: str) -> list[ExportedRun]:
    """Loads the networks that a checkpoint (best, last or epoch-0007) exports: one generator, or both translators.

    A growing generator keeps its size at the checkpoint and loses its unused stages.

    Raises:
        RunFolderError: this is not a run folder, or it has no such checkpoint.
    """
    folder = RunFolder.open(run)
    config = folder.read_config()
    path = folder.checkpoint_path(which)
    metadata, tensors = _read(path)
    if metadata.output_size != config.network.image_size and config.growth is None:
        raise RunFolderError(f"{path}: the size of its images differs from config.json")
    networks: dict[str, nn.Module] = {}
    try:
        for suffix, name in config.exports.items():
            network = config.build_generator()
            network.load_state_dict(section(tensors, name))
            if isinstance(network, ProgressiveGenerator):
                network.set_growth(metadata.output_size, metadata.fade)
                networks[suffix] = plain(network)
            else:
                networks[suffix] = with_plain_layers(network)
    except (RuntimeError, ValueError, UserError) as error:
        reason = " ".join(str(error).split())[:300]
        raise RunFolderError(f"{path}: does not fit config.json ({reason})") from error
    initial = {"init_from": f"{Path(config.init_from).name} ({config.init_checkpoint})"} if config.init_from else {}
    return [
        ExportedRun(
            network=network.eval().requires_grad_(False),
            name=_model_name(config, suffix),
            suffix=suffix,
            model=config.model,
            preset=config.preset,
            architecture=config.network.architecture,
            dataset=without_path(config.dataset),
            latent_dim=config.network.latent_dim,
            channels=config.network.channels,
            size=config.network.size_at(metadata.output_size),
            training={
                "preset": config.preset,
                "step": metadata.step,
                "images_seen": metadata.images_seen,
                "seed": config.seed,
                **initial,
                **metadata.metrics,
            },
        )
        for suffix, network in networks.items()
    ]


def _model_name(config: AnyConfig, suffix: str) -> str:
    """Data set and model: "my-pictures-dcgan"; the model alone for the small data set that every preset can use."""
    name = config.model + suffix
    if config.dataset == _UNNAMED_DATASET:
        return name
    return f"{slug_of(config.dataset)[: _MAX_MODEL_NAME - len(name) - 1].rstrip('-')}-{name}".lstrip("-")


def _read(path: Path) -> tuple[CheckpointMetadata, dict[str, Tensor]]:
    if not path.is_file():
        others = sorted(other.stem for other in path.parent.glob("*.safetensors"))
        remedy = f", or give --checkpoint {others[-1]}" if others else ""
        raise RunFolderError(f"{path.parent.parent}: has no {path.stem} checkpoint yet; train it longer{remedy}")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_METADATA_KEY, "")
            metadata = msgspec.json.decode(text, type=CheckpointMetadata)
            return metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except (SafetensorError, msgspec.MsgspecError, OSError, UnicodeDecodeError, RecursionError) as error:
        raise RunFolderError(f"{path}: not a checkpoint, or a damaged one ({error})") from error
