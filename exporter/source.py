"""The source of an export: a network and the metadata for its card. Reads them from a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from exporter.errors import InputError
from ganserve.bundle import ImageInput, LatentInput, RowInput


@dataclass(frozen=True)
class Source:
    """A network to export and the metadata for its card.

    `network` is in eval mode, float32, on the CPU. With a `LatentInput` it is a generator, latents (N, latent_dim) ->
    images (N, C, H, W); with an `ImageInput` a translator, images (N, C, H, W) in the value range -> images.
    """

    network: nn.Module
    input: RowInput
    name: str  # default name in the repository; empty if the user must give one
    kind: str
    architecture: str
    dataset: str
    suffix: str = ""  # appended to the user's name if a run holds several networks
    image_shape: tuple[int, int, int] | None = None  # (C, H, W) of the output images, if known
    training: Mapping[str, float | int | str | None] = field(default_factory=dict)
    value_min: float = -1.0
    value_max: float = 1.0


def from_run(run: Path, checkpoint: str) -> list[Source]:
    """Reads the networks of a run folder: one generator, or several translators.

    Args:
        run: The folder.
        checkpoint: "best", "last", or the checkpoint of an epoch, such as "epoch-0012".

    Raises:
        InputError: The folder is not a run that can be exported, or has no such checkpoint.
    """
    from trainer.runs.run_folder import RunFolderError, load_generators  # only a run needs the trainer

    try:
        exported_runs = load_generators(run, checkpoint)
    except RunFolderError as error:
        raise InputError(" ".join(str(error).split())) from error  # on one line
    return [
        Source(
            network=exported.network.float().cpu().eval(),
            input=LatentInput(latent_dim=exported.latent_dim)
            if exported.latent_dim
            else ImageInput(channels=exported.channels, height=exported.size[0], width=exported.size[1]),
            name=exported.name,
            suffix=exported.suffix,
            kind=exported.model,
            architecture=exported.architecture,
            dataset=exported.dataset,
            image_shape=(exported.channels, *exported.size),
            training={"preset": exported.preset, "checkpoint": checkpoint, **exported.training},
        )
        for exported in exported_runs
    ]
