"""Owner of the run folder contract: what a run leaves on disk, and how it is read back.

    config.json                          the resolved TrainConfig
    metrics.jsonl                        one JSON object a line; see metrics_log.py
    evaluations.jsonl                    the same, of checkpoints that were scored afterwards; see trainer/evaluate
    samples/step-00001000.png            grids of the same latents, through the averaged generator
    figures/                             curves and pictures drawn from the above
    checkpoints/{last,best}.safetensors  networks, averages, optimisers, random state; metadata as JSON in the header
    snapshots/step-00000100.safetensors  generators at some steps; benchmarks/claims keeps them
    checkpoints/epoch-0007.safetensors   networks alone, after that epoch; image-to-image models keep these
    tensorboard/                         the same curves, scores and samples as events

Every file is replaced by one rename but metrics.jsonl, which is cut back to the checkpoint on resuming, and the events,
of which readers leave out what is beyond it; so a kill at any instant leaves a run that goes on as if nothing had
happened. Nothing here is pickled.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ganserve.files import replace_file
from trainer.config import AnyConfig, GanConfig, check_config, from_json, to_json
from trainer.errors import RunFolderError, UserError
from trainer.models import build_generator, build_translator
from trainer.models.latent_layer import with_plain_layers
from trainer.models.progressive import ProgressiveGenerator, plain
from trainer.runs.metrics_log import MetricsLog
from trainer.runs.state import (
    EMA_GENERATOR,
    TRANSLATORS,
    TrainingState,
    network_tensors,
    restore_state,
    section,
    state_to_tensors,
)

__all__ = ["CheckpointMetadata", "ExportedRun", "RunFolder", "RunFolderError", "load_generators"]

Count = Annotated[int, msgspec.Meta(ge=0, le=10**15)]
_METADATA_KEY = "ganserve"
_CHECKPOINT_NAME = re.compile(r"best|last|epoch-[0-9]{4,9}")


class CheckpointMetadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a checkpoint knows besides tensors."""

    schema_version: Literal[2] = 2
    step: Count
    images_seen: Count
    counters: dict[str, Count]
    train_seconds: Annotated[float, msgspec.Meta(ge=0, le=1e10)]
    output_size: Annotated[int, msgspec.Meta(ge=1, le=1 << 14)]  # pixels; of the images that the networks make now
    fade: Annotated[float, msgspec.Meta(ge=0, le=1)]  # weight of the newest stage of a network that grows, else 1
    metrics: dict[str, float | None] = msgspec.field(
        name="figures"
    )  # what this checkpoint was measured at, if it was; None: not a finite number
    best_score: float | None  # of the best checkpoint so far, among those with the largest images
    best_size: Count
    epoch_step: Count  # of the last end of an epoch
    data_images: Count
    data_sha256: str  # of all decoded pixels, so that a resumed run is known to go on with the same data


@dataclass(frozen=True)
class ExportedRun:
    """One network of a run, as the exporter needs it."""

    # Eval mode, on the CPU: latents (N, latent_dim), or images (N, channels, image_size, image_size) in [-1, 1], ->
    # images (N, channels, image_size, image_size) in about [-1, 1].
    network: nn.Module
    name: str  # in a model repository, if the user gives none: "dcgan", "cyclegan-a2b"
    suffix: str  # what is put after the user's name: "", "-a2b"
    model: str
    preset: str
    architecture: str
    dataset: str
    latent_dim: int  # 0 for a network that takes images
    channels: int
    image_size: int
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
        self._config = path / "config.json"

    @classmethod
    def create(cls, out: Path, config: AnyConfig) -> RunFolder:
        """Makes the next numbered folder under `out`, such as 0003-dcgan-digits, and writes the config."""
        data = config.dataset.partition(":")
        label = Path(data[2]).stem if data[2] else data[0]
        name = f"{config.model}-{re.sub(r'[^A-Za-z0-9]+', '-', label).strip('-').lower()}"
        try:
            out.mkdir(parents=True, exist_ok=True)
            hidden = cls(Path(tempfile.mkdtemp(prefix=".new-", dir=out)))  # a folder that shows is a whole one
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

    def write_config(self, config: AnyConfig) -> None:
        """Writes config.json."""
        replace_file(self._config, (to_json(config) + "\n").encode())

    def read_config(self) -> AnyConfig:
        """Reads config.json strictly.

        Raises:
            RunFolderError: it is not a valid config of this version.
        """
        try:
            config = from_json(self._config.read_bytes())
            check_config(config)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError, UserError) as error:
            raise RunFolderError(f"{self._config}: not a valid config of this version of ganserve ({error})") from error
        return config

    def checkpoint_path(self, which: str) -> Path:
        """Where a checkpoint lies, if it was written; `which` is best, last or epoch-0007.

        Raises:
            RunFolderError: it is none of these.
        """
        if not _CHECKPOINT_NAME.fullmatch(which):
            raise RunFolderError(f"--checkpoint {which!r}: choose best, last or, where epochs are kept, epoch-0001")
        return self.path / "checkpoints" / f"{which}.safetensors"

    def save_checkpoint(self, state: TrainingState, metadata: CheckpointMetadata, *, best: bool) -> None:
        """Replaces the last checkpoint, and the best one too if this is it."""
        content = save(state_to_tensors(state), {_METADATA_KEY: msgspec.json.encode(metadata).decode()})
        if best:
            replace_file(self.checkpoint_path("best"), content)
        replace_file(self.checkpoint_path("last"), content)

    def keep_networks(self, state: TrainingState, metadata: CheckpointMetadata, epoch: int) -> None:
        """Writes the networks of an epoch to a file of their own, without what only resuming needs."""
        content = save(network_tensors(state), {_METADATA_KEY: msgspec.json.encode(metadata).decode()})
        replace_file(self.checkpoint_path(f"epoch-{epoch:04d}"), content)

    def read_metadata(self, which: str = "last") -> CheckpointMetadata:
        """What a checkpoint knows besides tensors.

        Raises:
            RunFolderError: there is none yet, or it is damaged.
        """
        return _read(self.checkpoint_path(which))[0]

    def load_checkpoint(self, state: TrainingState) -> CheckpointMetadata:
        """Restores networks, optimisers, counters and torch's random state from the last checkpoint.

        Raises:
            RunFolderError: there is none yet, or it does not belong to this config.
        """
        path = self.checkpoint_path("last")
        metadata, tensors = _read(path)
        try:
            if set(metadata.counters) != set(state.counters):
                raise UserError(f"it counts {', '.join(metadata.counters) or 'nothing'}")
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
    """Loads what a run's checkpoint (best, last or epoch-0007) has to export: one generator, or both translators.

    A generator that grows is taken as it was then: at the size it had reached, and without its unused stages.

    Raises:
        RunFolderError: not a run folder, or it has no such checkpoint.
    """
    folder = RunFolder.open(run)
    config = folder.read_config()
    path = folder.checkpoint_path(which)
    metadata, tensors = _read(path)
    grows = isinstance(config, GanConfig) and config.growth is not None
    if metadata.output_size != config.network.image_size and not grows:
        raise RunFolderError(f"{path}: is of images of another size than config.json says")
    try:
        if isinstance(config, GanConfig):
            networks = {"": _load_latent_generator(config, metadata, section(tensors, EMA_GENERATOR))}
        else:
            networks = {}
            for name, suffix in zip(TRANSLATORS, config.bundle_suffixes, strict=True):
                networks[suffix] = build_translator(config.network)
                networks[suffix].load_state_dict(section(tensors, name))
    except (RuntimeError, ValueError, UserError) as error:
        reason = " ".join(str(error).split())[:300]
        raise RunFolderError(f"{path}: does not fit config.json ({reason})") from error
    return [
        ExportedRun(
            network=network.eval().requires_grad_(False),
            name=config.model + suffix,
            suffix=suffix,
            model=config.model,
            preset=config.preset,
            architecture=config.network.architecture,
            dataset=config.dataset.partition(":")[0],  # a path says nothing to others, and may be private
            latent_dim=config.network.latent_dim if isinstance(config, GanConfig) else 0,
            channels=config.network.channels,
            image_size=metadata.output_size,
            training={
                "preset": config.preset,
                "step": metadata.step,
                "images_seen": metadata.images_seen,
                "seed": config.seed,
                **metadata.metrics,
            },
        )
        for suffix, network in networks.items()
    ]


def _load_latent_generator(config: GanConfig, metadata: CheckpointMetadata, weights: dict[str, Tensor]) -> nn.Module:
    generator = build_generator(config.network)
    generator.load_state_dict(weights)
    if not isinstance(generator, ProgressiveGenerator):
        return with_plain_layers(generator)
    generator.set_growth(metadata.output_size, metadata.fade)
    return plain(generator)


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
