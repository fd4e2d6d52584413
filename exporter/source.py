"""Where a network comes from: what an export needs to know of it, and how a run folder tells it.

Knows nothing of folding, formats or the repository. The trainer is imported only when a run is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from exporter.errors import InputError
from ganserve.bundle import ImageInput, LatentInput, RowInput

if TYPE_CHECKING:
    from trainer.runs.run_folder import ExportedRun


@dataclass(frozen=True)
class Source:
    """A network and what its card will say.

    `network` is in eval mode, float32, on CPU. With a `LatentInput` it is a generator, latents (N, latent_dim) ->
    images (N, C, H, W); with an `ImageInput` a translator, images (N, C, H, W) in the value range -> images.
    """

    network: nn.Module
    input: RowInput
    name: str  # of its model in the repository, unless the user gives one; empty if the user must
    kind: str
    architecture: str
    dataset: str
    suffix: str = ""  # what follows a name that the user gives, where a run holds several networks
    image_shape: tuple[int, int, int] | None = None  # (C, H, W) of its images, if the source promises one
    training: Mapping[str, float | int | str | None] = field(default_factory=dict)
    value_min: float = -1.0
    value_max: float = 1.0


def from_run(run: Path, checkpoint: str) -> list[Source]:
    """Reads the networks of a run folder: one generator, or several translators.

    Args:
        run: the folder.
        checkpoint: "best", "last", or one that was kept, such as "epoch-0012".

    Raises:
        InputError: the folder is not a run that can be exported, or has no such checkpoint.
    """
    from trainer.runs.run_folder import RunFolderError, load_generators

    try:
        exported_runs = load_generators(run, checkpoint)
    except RunFolderError as error:
        raise InputError(" ".join(str(error).split())) from error  # one line, whatever it quotes
    return [_from_exported_run(exported, checkpoint) for exported in exported_runs]


def _from_exported_run(exported: ExportedRun, checkpoint: str) -> Source:
    channels, image_size = exported.channels, exported.image_size
    row_input: RowInput
    if exported.latent_dim:
        row_input = LatentInput(latent_dim=exported.latent_dim)
    else:
        row_input = ImageInput(channels=channels, height=image_size, width=image_size)
    return Source(
        network=exported.network.float().cpu().eval(),
        input=row_input,
        name=exported.name,
        suffix=exported.suffix,
        kind=exported.model,
        architecture=exported.architecture,
        dataset=exported.dataset,
        image_shape=(channels, image_size, image_size),
        training={"preset": exported.preset, "checkpoint": checkpoint, **exported.training},
    )
