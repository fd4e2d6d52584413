"""Data sets: a name becomes one uint8 tensor of images, decoded once, and an endless, seeded order of batches.

`digits` comes with scikit-learn; `mnist` and `fashion-mnist` are torchvision's; `folder:PATH` and `zip:PATH` are
anyone's images (image_files.py reads those). Knows nothing of networks or training.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from trainer.data import image_files
from trainer.errors import UserError
from trainer.progress import Progress

if TYPE_CHECKING:
    from torchvision.datasets import MNIST  # torchvision takes seconds to import

_RESIZE_CHUNK = 2048


@dataclass(frozen=True)
class ImageData:
    """A whole data set at the training size."""

    name: str
    images: Tensor  # uint8, (N, C, H, W)
    skipped: tuple[str, ...] = ()  # why each unreadable file was left out

    @property
    def channels(self) -> int:
        """Channels of every image: 1 or 3."""
        return self.images.shape[1]

    def __len__(self) -> int:
        return self.images.shape[0]


def sha256_of(*parts: Tensor) -> str:
    """Hex SHA-256 of the shapes and all pixels of uint8 images on the CPU."""
    digest = hashlib.sha256()
    for images in parts:
        digest.update(repr(tuple(images.shape)).encode())
        digest.update(images.contiguous().numpy())  # type: ignore[arg-type]  # any buffer will do
    return digest.hexdigest()


def on_device(images: Tensor, device: torch.device) -> Tensor:
    """The whole data set on the device if it fits there; else it stays, and goes over batch by batch."""
    try:
        return images.to(device)
    except torch.OutOfMemoryError:
        return images


def to_unit_range(images: Tensor) -> Tensor:
    """Pixels 0..255 (uint8) -> [-1, 1] (float32), the range of a tanh."""
    return images.float().div_(127.5).sub_(1.0)


def _digits(_: Path, image_size: int, progress: Progress) -> Tensor:
    from sklearn.datasets import load_digits

    levels = load_digits().images  # (1797, 8, 8), 0..16
    images = torch.from_numpy(np.rint(levels * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    return _resize(images, image_size, progress)


def _torchvision(name: str) -> Callable[[Path, int, Progress], Tensor]:
    def load(root: Path, image_size: int, progress: Progress) -> Tensor:
        from torchvision import datasets

        images, _ = _read_or_download(getattr(datasets, name), root)
        return _resize(images.unsqueeze(1), image_size, progress)

    return load


BUILT_IN: dict[str, Callable[[Path, int, Progress], Tensor]] = {
    "digits": _digits,
    "mnist": _torchvision("MNIST"),
    "fashion-mnist": _torchvision("FashionMNIST"),
}
FILE_PREFIXES = ("folder:", "zip:")
_WITH_TEST_IMAGES = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}  # and torchvision's names of them


def check_dataset_name(name: str) -> None:
    """Raises UserError, listing the data sets, if there is none of this name; touches no file."""
    if name in BUILT_IN or any(name.startswith(prefix) and len(name) > len(prefix) for prefix in FILE_PREFIXES):
        return
    raise UserError(f"--dataset {name!r}: choose one of {', '.join(BUILT_IN)}, folder:PATH, zip:PATH")


def load_images(
    name: str, *, data_root: Path, image_size: int, max_corrupt_images: int, progress: Progress
) -> ImageData:
    """Decodes a data set to (N, C, image_size, image_size): short side resized, centre cropped.

    Raises:
        UserError: there is no such data set, it is empty, too much of it is corrupt, or it cannot be downloaded.
    """
    check_dataset_name(name)
    if name in BUILT_IN:
        return ImageData(name, BUILT_IN[name](data_root, image_size, progress))
    kind, _, path = name.partition(":")
    with image_files.open_source(kind, Path(path)) as source:
        images, skipped = image_files.decode_all(source, image_size, max_corrupt_images, progress)
    return ImageData(name, images, tuple(skipped))


def load_labels(name: str, data_root: Path) -> Tensor | None:
    """The class of each training image, (N,), in the order of `load_images`; None if the data set has no classes.

    Raises:
        UserError: it cannot be downloaded.
    """
    if name == "digits":
        from sklearn.datasets import load_digits

        return torch.from_numpy(load_digits().target).long()
    if name not in _WITH_TEST_IMAGES:
        return None
    from torchvision import datasets

    return _read_or_download(getattr(datasets, _WITH_TEST_IMAGES[name]), data_root)[1].long()


def load_test_images(name: str, *, data_root: Path, image_size: int, progress: Progress) -> ImageData:
    """The images that are kept for testing, as `load_images` has those to train on.

    Raises:
        UserError: the data set has none, or it cannot be downloaded.
    """
    check_dataset_name(name)
    if name not in _WITH_TEST_IMAGES:
        raise UserError(f"--split test: {name} has no test images; give --split train")
    from torchvision import datasets

    images, _ = _read_or_download(getattr(datasets, _WITH_TEST_IMAGES[name]), data_root, train=False)
    return ImageData(name, _resize(images.unsqueeze(1), image_size, progress))


def stream_indices(seed: int, position: int, length: int, count: int) -> Tensor:
    """Some of the endless order in which `count` images are shown: one shuffled pass over the data after another.

    Args:
        seed: of the shuffling.
        position: how many images were shown before.
        length: how many are wanted; they may belong to two passes.
        count: images in the data set.
    """
    parts = []
    while length > 0:
        epoch, offset = divmod(position, count)
        parts.append(batch_indices(seed, epoch, count)[offset : offset + length])
        position += len(parts[-1])
        length -= len(parts[-1])
    return torch.cat(parts)


@lru_cache(maxsize=4)
def batch_indices(seed: int, epoch: int, count: int) -> Tensor:
    """The order of the images in one pass: a permutation of 0 .. count - 1 that depends on nothing else."""
    generator = np.random.Generator(np.random.PCG64([seed, epoch]))
    return torch.from_numpy(generator.permutation(count))


def _resize(images: Tensor, image_size: int, progress: Progress) -> Tensor:
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as transforms

    if images.shape[-2:] == (image_size, image_size):
        return images
    size = [image_size, image_size]
    chunks = [
        transforms.resize(chunk, size, InterpolationMode.BICUBIC, antialias=True)
        for chunk in progress.track(torch.split(images, _RESIZE_CHUNK), "resizing")
    ]
    return torch.cat(chunks)


def _read_or_download(dataset: type[MNIST], root: Path, *, train: bool = True) -> tuple[Tensor, Tensor]:
    """The images to train or to test on, and their labels.

    They come from files under `root` if they are there (torchvision's layout), else are downloaded there. torchvision
    checks the hash of every archive, and shows a progress bar while it downloads.
    """
    raw = root / dataset.__name__ / "raw"
    archives = [raw / name for name, _ in dataset.resources]
    try:
        if not all(path.is_file() for path in archives) or all(path.with_suffix("").is_file() for path in archives):
            return _contents(dataset(str(root), train, download=True))
        # Unpack beside nothing of the user's: the folder of the archives may be read-only.
        with tempfile.TemporaryDirectory() as folder:
            copies = Path(folder) / dataset.__name__ / "raw"
            copies.mkdir(parents=True)
            for path in archives:
                shutil.copyfile(path, copies / path.name)
            return _contents(dataset(folder, train, download=True))
    except (RuntimeError, OSError, urllib.error.URLError, ValueError) as error:
        names = ", ".join(name for name, _ in dataset.resources)
        reason = " ".join(str(error).split())
        raise UserError(
            f"--data-root {root}: {dataset.__name__} is not there and could not be downloaded ({reason});"
            f" put {names} into {raw}"
        ) from error


def _contents(dataset: MNIST) -> tuple[Tensor, Tensor]:
    return dataset.data, dataset.targets  # uint8 (N, 28, 28), int64 (N,)
