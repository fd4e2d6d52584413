"""What is trained to test the claims: a table of trainings, each at the sources' own scale and at a quick one.

An epoch is one pass over the data at full scale. At quick scale it is so many images as the table says, and the
networks are narrower: a quick verdict is about that setting alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any, Literal

from trainer.config import DeviceName, GanConfig, override
from trainer.errors import UserError
from trainer.presets import PRESETS

Scale = Literal["quick", "full"]
FACES = "faces"  # stands for the anime faces of the sources, which a user must bring
STAND_IN = "fashion-mnist"  # takes their place at quick scale

_THIN: dict[str, Any] = {"network.width": 0.25}
_SMALL: dict[str, Any] = {"network.image_size": 32}


@dataclass(frozen=True)
class Subject:
    """One recipe that claims speak of, and when they look at it."""

    name: str
    title: str  # for tables and charts
    model: str
    preset: str
    data: str  # "mnist", "fashion-mnist" or FACES
    looks: tuple[int, ...]  # epochs at full scale
    quick_epoch_images: int
    settings: dict[str, Any] = field(default_factory=dict)  # fields of the config that are not the preset's
    quick: dict[str, Any] = field(default_factory=dict)  # further ones at quick scale
    quick_looks: tuple[int, ...] = ()  # epochs at quick scale, if they are not those of full scale

    def epochs(self, scale: Scale) -> tuple[int, ...]:
        """When its generator is looked at."""
        return self.quick_looks if scale == "quick" and self.quick_looks else self.looks


@dataclass(frozen=True)
class Setting:
    """At what scale, and on what, everything is trained."""

    scale: Scale
    faces: str | None  # the data set of faces, such as "zip:/data/faces.zip"; None: there is none
    data_root: str
    device: DeviceName = "auto"

    def dataset(self, subject: Subject) -> str | None:
        """The data set of a subject; None if it cannot be had."""
        if subject.data != FACES:
            return subject.data
        return self.faces or (STAND_IN if self.scale == "quick" else None)

    def config(self, subject: Subject, seed: int) -> GanConfig:
        """The settings of one training, but for its length, precision and channels.

        Raises:
            UserError: its data set cannot be had.
        """
        dataset = self.dataset(subject)
        if dataset is None:
            raise UserError(f"--anime: {subject.name} needs images of faces; give --anime zip:PATH or folder:PATH")
        preset = PRESETS[subject.model, subject.preset].config
        assert isinstance(preset, GanConfig)  # all subjects are
        kind, colon, path = dataset.partition(":")
        config = override(
            preset,
            subject.settings
            | (subject.quick if self.scale == "quick" else {})
            | {
                "dataset": f"{kind}:{Path(path).absolute()}" if colon else dataset,
                "data_root": str(Path(self.data_root).absolute()),
                "seed": seed,
                "device": self.device,
                "epochs": None,
                "images": None,
                "steps": 1,
                # Whatever is measured is measured at the looks.
                "evaluate_every_steps": 10**9,
                "evaluation_images": 64,
                "best_by": "",
                "on_collapse": "warn",
            },
        )
        config.check()
        return config

    def step_of(self, subject: Subject, epoch: float, config: GanConfig, data_images: int) -> int:
        """The step that ends an epoch: the first by which all its images were shown."""
        images = subject.quick_epoch_images if self.scale == "quick" else data_images
        return max(1, ceil(epoch * images / config.batch_size))


def check_images_name(name: str) -> None:
    """Raises UserError if --anime names no folder or archive that is there."""
    kind, _, path = name.partition(":")
    exists = {"zip": Path(path).is_file(), "folder": Path(path).is_dir()}
    if not exists.get(kind, False):
        raise UserError(f"--anime {name!r}: there is no such data; give zip:PATH or folder:PATH")


_ADVERSARIAL: dict[str, Any] = {"data": FACES, "looks": (10, 50, 100, 150), "quick_epoch_images": 448}
_DIGITS: dict[str, Any] = {"data": "mnist", "quick_epoch_images": 4_800}
_CELLS: dict[str, Any] = {"model": "dcgan", "preset": "dcgan64-k4", "looks": (30,), "quick_epoch_images": 1_366}
_CRITIC: dict[str, Any] = {"model": "dcgan", "preset": "dcgan-upsample32", "quick": _THIN} | _DIGITS
_RATES = {rate: {"generator_lr": rate, "discriminator_lr": rate} for rate in (1e-4, 2e-4, 3e-4)}


def _cell(batch_size: int, rate: float) -> Subject:
    return Subject(
        name=f"cell-{batch_size}-{rate * 1e4:.0f}",
        title=f"batch {batch_size}, lr {rate * 1e4:.0f}e-4",
        data="mnist",
        settings={"batch_size": batch_size, "network.channels": 1} | _RATES[rate],
        quick=_THIN | _SMALL,
        **_CELLS,
    )


_TABLE = (
    Subject("fc-fashion", "FC, Fashion-MNIST", "gan", "mlp-fmnist", "fashion-mnist", (10, 50), 1_280),
    Subject(
        "dcgan-fashion",
        "DCGAN, Fashion-MNIST",
        "dcgan",
        "dcgan-fmnist32",
        "fashion-mnist",
        (10, 50),
        1_280,
        quick=_THIN,
    ),
    Subject(
        "fc-mnist",
        "FC, MNIST",
        "gan",
        "mlp-mnist",
        looks=(1, 2, 3, 5, 10, 20, 30, 50, 60, 80, 100, 150, 200),
        quick_looks=(1, 2, 4, 6, 10, 20),
        **_DIGITS,
    ),
    Subject(
        "dcgan-mnist",
        "DCGAN, MNIST",
        looks=(1, 2, 3, 5, 10, 20, 30, 50, 60, 80, 100, 150, 200),
        quick_looks=(1, 2, 4, 6, 10, 20),
        **_CRITIC,
    ),
    Subject(
        "dcgan-mnist-2",
        "DCGAN, MNIST, 2 D steps a G step",
        looks=(10, 30, 60, 100),
        quick_looks=(2, 4, 8, 20),
        settings={"n_critic": 2},
        **_CRITIC,
    ),
    Subject(
        "dcgan-mnist-5",
        "DCGAN, MNIST, 5 D steps a G step",
        looks=(10, 30, 75, 150),
        quick_looks=(2, 4, 10, 20),
        settings={"n_critic": 5},
        **_CRITIC,
    ),
    Subject("fc-faces", "FC", "gan", "mlp-anime64", quick=_SMALL, **_ADVERSARIAL),
    Subject("dcgan-faces", "DCGAN", "dcgan", "dcgan64-k5", quick=_SMALL | _THIN, **_ADVERSARIAL),
    Subject("wgan-faces", "WGAN", "wgan", "wgan64-k5", quick=_SMALL | _THIN, **_ADVERSARIAL),
    Subject("adam-faces", "DCGAN, Adam", data=FACES, quick=_SMALL | _THIN, **_CELLS),
    Subject(
        "rmsprop-faces",
        "DCGAN, RMSprop",
        data=FACES,
        settings={"optimizer": "rmsprop"},
        quick=_SMALL | _THIN,
        **_CELLS,
    ),
    Subject(
        "wgan-loss",
        "WGAN, 5 critic steps a G step",
        "wgan",
        "wgan-paper",
        FACES,
        looks=(1, 2, 5, 10, 15, 20, 30, 40, 50, 60, 80, 100),
        quick_epoch_images=768,
        quick=_SMALL | _THIN | {"warm_start": False, "generator_lr": 2e-4, "discriminator_lr": 2e-4},
    ),
    *(_cell(batch_size, 2e-4) for batch_size in (128, 512, 1024)),
    *(_cell(128, rate) for rate in (1e-4, 3e-4)),
)

SUBJECTS: dict[str, Subject] = {subject.name: subject for subject in _TABLE}
