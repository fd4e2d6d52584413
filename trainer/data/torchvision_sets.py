"""Reads torchvision's data sets: files in its layout under --data-root, downloaded if they are missing.

torchvision checks the hash of every archive, and of CIFAR-10's pickles before it opens them.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.data.image_files import ImageSource, open_source
from trainer.errors import UserError


def read_set(name: str, root: Path, *, train: bool = True) -> tuple[Tensor, Tensor]:
    """The training or test images of torchvision's class `name`, uint8 (N, C, H, W), and their labels, int64 (N,).

    Raises:
        UserError: they are missing or damaged, and cannot be downloaded.
    """
    from torchvision import datasets  # takes seconds to import

    dataset = getattr(datasets, name)
    folder, archives, unpacked = _files(dataset)
    try:
        has_archives = all((root / folder / archive).is_file() for archive in archives)
        if not has_archives or all((root / path).is_file() for path in unpacked):
            return _contents(dataset(str(root), train, download=True))
        # Unpack elsewhere: the folder of the archives may be read-only.
        with tempfile.TemporaryDirectory() as elsewhere:
            copies = Path(elsewhere) / folder
            copies.mkdir(parents=True, exist_ok=True)
            for archive in archives:
                shutil.copyfile(root / folder / archive, copies / archive)
            return _contents(dataset(elsewhere, train, download=True))
    except (RuntimeError, OSError, ValueError) as error:  # URLError is an OSError
        reason = " ".join(str(error).split())
        raise UserError(
            f"--data-root {root}: {name} is missing and could not be downloaded ({reason});"
            f" put {', '.join(archives)} into {root / folder}"
        ) from error


@contextmanager
def open_celeba(root: Path) -> Iterator[ImageSource]:
    """Opens the aligned and cropped images of CelebA: a folder or a zip file under `root`/celeba.

    Raises:
        UserError: they are missing and cannot be downloaded.
    """
    folder = root / "celeba" / "img_align_celeba"
    archive = folder.with_suffix(".zip")
    if not folder.is_dir() and not archive.is_file():
        _download_celeba(archive)
    with open_source(folder if folder.is_dir() else archive) as source:
        yield replace(source, flag="--dataset celeba")


def _download_celeba(archive: Path) -> None:
    from torchvision import datasets

    file_id, md5, name = next(entry for entry in datasets.CelebA.file_list if entry[2] == archive.name)
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=archive.parent) as folder:
            datasets.utils.download_file_from_google_drive(file_id, folder, name, md5)
            (Path(folder) / name).rename(archive)
    except Exception as error:  # gdown raises exceptions of its own
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"--data-root {archive.parents[1]}: CelebA is missing and could not be downloaded ({reason}); put"
            f" {name} from its page, unpacked or not, into {archive.parent}"
        ) from error


def _files(dataset: Any) -> tuple[Path, list[str], list[Path]]:
    """A folder, the archives in it, and the files that they contain; all paths are relative to the root."""
    if hasattr(dataset, "resources"):  # MNIST and its kind
        folder = Path(dataset.__name__) / "raw"
        archives = [name for name, _ in dataset.resources]
        return folder, archives, [(folder / name).with_suffix("") for name in archives]
    parts = [name for name, _ in (*dataset.train_list, *dataset.test_list)]
    return Path(), [dataset.filename], [Path(dataset.base_folder) / name for name in parts]


def _contents(dataset: Any) -> tuple[Tensor, Tensor]:
    images = torch.as_tensor(dataset.data)
    images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
    return images, torch.as_tensor(dataset.targets).long()
