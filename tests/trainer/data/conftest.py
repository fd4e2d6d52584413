"""Tiny data sets in torchvision's layout, with hashes that torchvision will check."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from torchvision import datasets

NOWHERE = "http://127.0.0.1:9/"  # nothing listens there


def idx(array: NDArray[np.uint8]) -> bytes:
    """An array in MNIST's file format."""
    return gzip.compress(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())


@pytest.fixture
def mnist_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six images with labels 0 to 5; the test images are their negatives."""
    images = np.arange(6 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(6, 28, 28)
    labels = np.arange(6, dtype=np.uint8)
    contents = {"train-images-idx3-ubyte.gz": idx(images), "train-labels-idx1-ubyte.gz": idx(labels)}
    contents |= {"t10k-images-idx3-ubyte.gz": idx(255 - images), "t10k-labels-idx1-ubyte.gz": idx(labels)}
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in contents.items():
        (raw / name).write_bytes(content)
    resources = [(name, hashlib.md5(content).hexdigest()) for name, content in contents.items()]
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    monkeypatch.setattr(datasets.MNIST, "mirrors", [NOWHERE])
    return tmp_path


@pytest.fixture
def cifar_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The archive of CIFAR-10 with two images per batch, whose red channel holds the number of the image."""
    names = [name for name, _ in (*datasets.CIFAR10.train_list, *datasets.CIFAR10.test_list)]
    files: dict[str, bytes] = {}
    for part, name in enumerate(names):
        pixels = np.zeros((2, 3, 32, 32), dtype=np.uint8)
        pixels[:, 0] = np.arange(2 * part, 2 * part + 2)[:, None, None]
        pixels[:, 2, 0, 1] = 255  # blue, in the second column of the first row
        files[name] = pickle.dumps({"data": pixels.reshape(2, -1), "labels": [part, 9 - part]})
    files["batches.meta"] = pickle.dumps({"label_names": [str(label) for label in range(10)]})
    hashes = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(archive.getvalue())
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [[name, hashes[name]] for name in names[:-1]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [[names[-1], hashes[names[-1]]]])
    monkeypatch.setattr(datasets.CIFAR10, "meta", datasets.CIFAR10.meta | {"md5": hashes["batches.meta"]})
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", hashlib.md5(archive.getvalue()).hexdigest())
    monkeypatch.setattr(datasets.CIFAR10, "url", NOWHERE + "cifar-10-python.tar.gz")
    return tmp_path
