"""The runs that test the claims: a table of recipes, each at the scale of its source and at a quick scale.

At full scale an epoch is one pass over the data. At quick scale it is the number of images in the table, and the
networks are narrower, so a quick verdict holds for that setting only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any, Literal

from trainer.config import AnyConfig, DeviceName, override
from trainer.data.datasets import normal_name
from trainer.errors import UserError
from trainer.presets import PRESETS

Scale = Literal["quick", "full"]
FACES = "faces"  # the anime faces of the sources, which the user provides
STAND_IN = "fashion-mnist"  # replaces them at quick scale

_THIN: dict[str, Any] = {"network.width": 0.25}
_SMALL: dict[str, Any] = {"network.image_size": 32}


@dataclass(frozen=True)
class Subject:
    """One recipe, and the epochs at which claims measure it."""

    name: str
    title: str  # for tables and charts
    model: str
    preset: str
    data: str  # "mnist", "fashion-mnist" or FACES
    snapshots: tuple[int, ...]  # epochs at full scale
    quick_epoch_images: int
    settings: dict[str, Any] = field(default_factory=dict)  # fields of the config that differ from the preset
    quick: dict[str, Any] = field(default_factory=dict)  # further differences at quick scale
    quick_snapshots: tuple[int, ...] = ()  # epochs at quick scale; empty: those of full scale

    def epochs(self, scale: Scale) -> tuple[int, ...]:
        """The epochs at which snapshots are taken."""
        return self.quick_snapshots if scale == "quick" and self.quick_snapshots else self.snapshots


@dataclass(frozen=True)
class Setting:
    """The scale, the data and the device of all runs."""

    scale: Scale
    faces: str | None  # the data set of faces, such as "zip:/data/faces.zip"; None: not given
    data_root: str
    device: DeviceName = "auto"

    def dataset(self, subject: Subject) -> str | None:
        """The data set of a subject; None if it is not available."""
        if subject.data != FACES:
            return subject.data
        return self.faces or (STAND_IN if self.scale == "quick" else None)

    def config(self, subject: Subject, seed: int) -> AnyConfig:
        """The settings of one run, without its length, precision and channels.

        Raises:
            UserError: the data set is not available.
        """
        dataset = self.dataset(subject)
        if dataset is None:
            raise UserError(f"--anime: {subject.name} needs images of faces; give --anime PATH of a folder or zip file")
        kind, colon, path = dataset.partition(":")
        config = override(
            PRESETS[subject.model, subject.preset].config,
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
                # Claims measure snapshots, so the run itself need not evaluate.
                "evaluate_every_steps": 10**9,
                "evaluation_images": 64,
                "best_by": "",
                "on_collapse": "warn",
            },
        )
        config.check()
        return config

    def step_of(self, subject: Subject, epoch: float, config: AnyConfig, data_images: int) -> int:
        """The step that ends an epoch: the first after which the network has seen all its images."""
        images = subject.quick_epoch_images if self.scale == "quick" else data_images
        return max(1, ceil(epoch * images / config.batch_size))


def images_name(given: str) -> str:
    """The name of the data set that --anime names: "folder:PATH" or "zip:PATH" of a path.

    Raises:
        UserError: there is nothing.
    """
    name = normal_name(given)
    path = name.partition(":")[2]
    if not path or not Path(path).exists():
        raise UserError(f"--anime {given!r}: no such folder or zip file; give its path")
    return name


_ADVERSARIAL: dict[str, Any] = {"data": FACES, "snapshots": (10, 50, 100, 150), "quick_epoch_images": 448}
_DIGITS: dict[str, Any] = {"data": "mnist", "quick_epoch_images": 4_800}
_CELLS: dict[str, Any] = {"model": "dcgan", "preset": "dcgan64-k4", "snapshots": (30,), "quick_epoch_images": 1_366}
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
        snapshots=(1, 2, 3, 5, 10, 20, 30, 50, 60, 80, 100, 150, 200),
        quick_snapshots=(1, 2, 4, 6, 10, 20),
        **_DIGITS,
    ),
    Subject(
        "dcgan-mnist",
        "DCGAN, MNIST",
        snapshots=(1, 2, 3, 5, 10, 20, 30, 50, 60, 80, 100, 150, 200),
        quick_snapshots=(1, 2, 4, 6, 10, 20),
        **_CRITIC,
    ),
    Subject(
        "dcgan-mnist-2",
        "DCGAN, MNIST, 2 D steps per G step",
        snapshots=(10, 30, 60, 100),
        quick_snapshots=(2, 4, 8, 20),
        settings={"n_critic": 2},
        **_CRITIC,
    ),
    Subject(
        "dcgan-mnist-5",
        "DCGAN, MNIST, 5 D steps per G step",
        snapshots=(10, 30, 75, 150),
        quick_snapshots=(2, 4, 10, 20),
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
        "WGAN, 5 critic steps per G step",
        "wgan",
        "wgan-paper",
        FACES,
        snapshots=(1, 2, 5, 10, 15, 20, 30, 40, 50, 60, 80, 100),
        quick_epoch_images=768,
        quick=_SMALL | _THIN | {"warm_start": False, "generator_lr": 2e-4, "discriminator_lr": 2e-4},
    ),
    *(_cell(batch_size, 2e-4) for batch_size in (128, 512, 1024)),
    *(_cell(128, rate) for rate in (1e-4, 3e-4)),
)

SUBJECTS: dict[str, Subject] = {subject.name: subject for subject in _TABLE}
