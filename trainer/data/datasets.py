"""Data sets by name, decoded to one uint8 tensor of images and shown in an endless, seeded order.

`digits` comes with scikit-learn; `mnist`, `fashion-mnist`, `cifar10` and `celeba` are torchvision's
(torchvision_sets.py); `stacked-mnist` is made from `mnist` (stacked_mnist.py); `folder:PATH` and `zip:PATH` are
arbitrary image files (image_files.py), which decoding.py decodes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from trainer.data import image_files, stacked_mnist
from trainer.data.decoding import decode_all
from trainer.data.pixel_store import chosen_rows
from trainer.data.torchvision_sets import open_celeba, read_set
from trainer.errors import UserError
from trainer.progress import Progress

_RESIZE_CHUNK = 2048


@dataclass(frozen=True)
class ImageData:
    """A data set at the training size."""

    name: str
    images: Tensor  # uint8, (N, C, H, W)
    skipped: tuple[str, ...] = ()  # one line per unreadable file
    left_out: Mapping[str, int] = field(default_factory=dict)  # files that are no pictures: why -> how many
    pixel_range: tuple[int, int] | None = None  # darkest and brightest value, of decoded files

    @property
    def channels(self) -> int:
        """Channels of every image: 1 or 3."""
        return self.images.shape[1]

    @property
    def images_per_epoch(self) -> int:
        """Images in one pass over the data."""
        return self.images.shape[0]

    @property
    def smallest_part(self) -> tuple[str, int]:
        """The part that limits the batch size: its name, for messages, and its number of images."""
        return self.name, self.images_per_epoch

    @property
    def summary(self) -> str:
        """The number of images, for the user: "300 of 301 images" if one is unreadable."""
        found = f" of {self.images_per_epoch + len(self.skipped)}" if self.skipped else ""
        return f"{self.images_per_epoch}{found} images"

    @property
    def parts(self) -> dict[str, Tensor]:
        """The images, by the name of each part."""
        return {"images": self.images}

    def in_colour(self) -> ImageData:
        """The same images as RGB, so that networks for RGB images can train on a gray data set."""
        return self if self.channels == 3 else replace(self, images=as_rgb(self.images))

    def __len__(self) -> int:
        return self.images_per_epoch


def as_rgb(images: Tensor) -> Tensor:
    """Gray images (N, 1, H, W) -> (N, 3, H, W) with three equal channels."""
    return images.repeat(1, 3, 1, 1)


def sha256_of(*parts: Tensor) -> str:
    """Hex SHA-256 of the shapes and all pixels of uint8 images on the CPU."""
    digest = hashlib.sha256()
    for images in parts:
        digest.update(repr(tuple(images.shape)).encode())
        digest.update(images.contiguous().numpy())  # type: ignore[arg-type]  # any buffer works
    return digest.hexdigest()


def on_device(images: Tensor, device: torch.device) -> Tensor:
    """Moves the data set to the device if it fits; otherwise returns it unchanged, to be moved batch by batch."""
    try:
        return images.to(device)
    except torch.OutOfMemoryError:
        return images


def rows_on_device(images: Tensor, rows: Tensor, device: torch.device) -> Tensor:
    """`images[rows]` on the device, from `images` there or on the CPU; `rows` are on the CPU."""
    return _sent(chosen_rows(images, _sent(rows, images.device)), device)


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device. From the CPU to CUDA, the copy does not wait for the steps in progress there.

    From pageable memory it would (NVIDIA, "API synchronization behavior"). PyTorch keeps page-locked memory until the
    copy has ended.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def to_unit_range(images: Tensor) -> Tensor:
    """Converts pixels 0..255 (uint8) to [-1, 1] (float32), the range of a tanh."""
    return images.float().div_(127.5).sub_(1.0)


@dataclass(frozen=True)
class LabelledData:
    """A data set whose images have classes; --data-root is the argument of the functions."""

    train: Callable[[Path], Tensor]  # uint8 (N, C, H, W), at its own size
    labels: Callable[[Path], Tensor]  # of the training images, int64 (N,)
    test: Callable[[Path], Tensor] | None = None
    stacks: tuple[stacked_mnist.Stack, stacked_mnist.Stack] | None = None  # of resized training and test images


def _digits(_: Path) -> Tensor:
    from sklearn.datasets import load_digits

    levels = load_digits().images  # (1797, 8, 8), 0..16
    return torch.from_numpy(np.rint(levels * (255 / 16)).astype(np.uint8)).unsqueeze(1)


def _labels_of_digits(_: Path) -> Tensor:
    from sklearn.datasets import load_digits

    return torch.from_numpy(load_digits().target).long()


def _torchvision(name: str) -> LabelledData:
    return LabelledData(
        train=lambda root: read_set(name, root)[0],
        labels=lambda root: read_set(name, root)[1],
        test=lambda root: read_set(name, root, train=False)[0],
    )


STACKED_MNIST: Final = "stacked-mnist"
CELEBA: Final = "celeba"
LABELLED: Final[dict[str, LabelledData]] = {
    "digits": LabelledData(_digits, _labels_of_digits),
    "mnist": _torchvision("MNIST"),
    "fashion-mnist": _torchvision("FashionMNIST"),
    STACKED_MNIST: replace(_torchvision("MNIST"), stacks=(stacked_mnist.TRAINING, stacked_mnist.TEST)),
    "cifar10": _torchvision("CIFAR10"),
}
NAMES: Final = (*LABELLED, CELEBA)
FILE_PREFIXES: Final = ("folder:", "zip:")


def check_dataset_name(name: str) -> None:
    """Raises UserError, listing the data sets, if the name is unknown; reads no file."""
    if name in NAMES or any(name.startswith(prefix) and len(name) > len(prefix) for prefix in FILE_PREFIXES):
        return
    raise UserError(
        f"--dataset {name!r}: choose one of {', '.join(NAMES)}, folder:PATH, zip:PATH, or the path of a folder or zip"
        " file that exists"
    )


def is_own(name: str) -> bool:
    """Whether a data set is a folder or zip file of the user."""
    return name.startswith(FILE_PREFIXES)


def normal_name(name: str) -> str:
    """A data set's name in its usual form: "folder:PATH" or "zip:PATH", whichever is there, or a built-in name.

    The path has no trailing slash, `~` and `.`; it is still relative. The path alone is enough if something is there.
    """
    kind, _, path = name.partition(":")
    if name in NAMES or (is_own(name) and not path):
        return name
    if not is_own(name):
        kind, path = "folder", name
        if not name or not os.path.exists(os.path.expanduser(path)):  # noqa: PTH110, PTH111  # unlike Path, never fails
            return name
    path = os.path.normpath(os.path.expanduser(path))  # noqa: PTH111
    if Path(path).is_dir():
        kind = "folder"
    elif Path(path).is_file():
        kind = "zip"
    return f"{kind}:{path}"


def load_images(
    name: str, *, data_root: Path, image_size: int | tuple[int, int], max_corrupt_images: int, progress: Progress
) -> ImageData:
    """Decodes a data set to (N, C, H, W) of one size: scaled to cover it, centre cropped.

    Args:
        name: a built-in name, "folder:PATH", "zip:PATH" or a path.
        data_root: folder of torchvision's data sets.
        image_size: height and width in pixels, or one number for both.
        max_corrupt_images: unreadable files to skip at most.
        progress: for the user.

    Raises:
        UserError: there is no such data set, it has no readable image, more than `max_corrupt_images` are unreadable,
            there is no room for the pixels, or it cannot be downloaded.
    """
    name = normal_name(name)
    check_dataset_name(name)
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if name in LABELLED:
        data = LABELLED[name]
        images = _resize(data.train(data_root), size, progress)
        return ImageData(name, images if data.stacks is None else data.stacks[0].images(images))
    path = Path(name.partition(":")[2])
    with open_celeba(data_root) if name == CELEBA else image_files.open_source(path) as source:
        images, decoded = decode_all(source, size, max_corrupt_images, progress)
    return ImageData(name, images, decoded.skipped, source.left_out, (decoded.darkest, decoded.brightest))


def load_labels(name: str, data_root: Path) -> Tensor | None:
    """The class of each training image, (N,), in the order of `load_images`; None if the data set has no classes.

    Raises:
        UserError: they cannot be downloaded.
    """
    if name not in LABELLED:
        return None
    data = LABELLED[name]
    labels = data.labels(data_root)
    return labels if data.stacks is None else data.stacks[0].labels(labels)


def load_test_images(name: str, *, data_root: Path, image_size: int | tuple[int, int], progress: Progress) -> ImageData:
    """The test images, decoded as `load_images` decodes the training images.

    Raises:
        UserError: the data set has no test images, or they cannot be downloaded.
    """
    check_dataset_name(name)
    data = LABELLED.get(name)
    if data is None or data.test is None:
        raise UserError(f"--split test: {name} has no test images; give --split train")
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    images = _resize(data.test(data_root), size, progress)
    return ImageData(name, images if data.stacks is None else data.stacks[1].images(images))


def stream_indices(seed: int, position: int, length: int, count: int) -> Tensor:
    """A slice of the endless order in which images are shown: one shuffled pass over the data after another.

    Args:
        seed: of the shuffle.
        position: images shown before the slice.
        length: images in the slice, which may span passes.
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
    """The order of the images in one pass: a permutation of 0 .. count - 1 that depends on the arguments alone."""
    generator = np.random.Generator(np.random.PCG64([seed, epoch]))
    return torch.from_numpy(generator.permutation(count))


def _resize(images: Tensor, size: tuple[int, int], progress: Progress) -> Tensor:
    """Images (N, C, H, W) stretched to another size."""
    if images.shape[-2:] == size:
        return images
    resized = torch.empty(*images.shape[:2], *size, dtype=torch.uint8)
    for start in progress.track(range(0, len(images), _RESIZE_CHUNK), "resizing"):
        chunk = images[start : start + _RESIZE_CHUNK]
        # Exactly what torchvision's resize calls; importing that would take a second.
        resized[start : start + len(chunk)] = interpolate(chunk, size, mode="bicubic", antialias=True)
    return resized
