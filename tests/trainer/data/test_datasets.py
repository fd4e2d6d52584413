from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import datasets

from trainer.data.datasets import (
    ImageData,
    batch_indices,
    check_dataset_name,
    load_images,
    load_labels,
    load_test_images,
    stream_indices,
    to_unit_range,
)
from trainer.errors import UserError
from trainer.progress import Progress


def load(name: str, progress: Progress, root: Path = Path("nowhere"), size: int = 32) -> ImageData:
    return load_images(name, data_root=root, image_size=size, max_corrupt_images=0, progress=progress)


def idx(array: np.ndarray) -> bytes:
    """An array in MNIST's file format."""
    return gzip.compress(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())


@pytest.fixture
def mnist_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny MNIST in torchvision's layout, with hashes that torchvision will check."""
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
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])  # nothing listens there
    return tmp_path


@pytest.mark.parametrize("size", [8, 28, 32])
def test_digits_are_the_1797_of_scikit_learn_at_any_size(quiet: Progress, size: int) -> None:
    data = load("digits", quiet, size=size)
    assert data.images.shape == (1797, 1, size, size)
    assert data.images.dtype == torch.uint8
    assert data.images.max() == 255
    assert data.images.min() == 0


def test_pixels_are_scaled_to_the_range_of_a_tanh() -> None:
    pixels = torch.tensor([[[[0, 255]]]], dtype=torch.uint8)
    assert to_unit_range(pixels).flatten().tolist() == [-1.0, 1.0]


def test_mnist_archives_are_used_and_their_folder_stays_unchanged(quiet: Progress, mnist_root: Path) -> None:
    before = sorted(mnist_root.rglob("*"))
    data = load("mnist", quiet, mnist_root, size=28)
    assert data.images.shape == (6, 1, 28, 28)
    assert data.images[0, 0, 0].tolist() == list(range(28))
    assert sorted(mnist_root.rglob("*")) == before


def test_a_damaged_mnist_archive_is_refused_with_a_remedy(quiet: Progress, mnist_root: Path) -> None:
    (mnist_root / "MNIST" / "raw" / "train-images-idx3-ubyte.gz").write_bytes(b"not what was published")
    with pytest.raises(UserError, match=r"--data-root .*could not be downloaded.*train-images-idx3-ubyte.gz"):
        load("mnist", quiet, mnist_root)


def test_mnist_that_is_missing_and_cannot_be_downloaded_is_a_clear_error(
    quiet: Progress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(UserError, match=r"--data-root .*FashionMNIST is missing") as caught:
        load("fashion-mnist", quiet, tmp_path)
    assert "\n" not in str(caught.value)


def test_mnist_has_labels_and_test_images(quiet: Progress, mnist_root: Path) -> None:
    labels = load_labels("mnist", mnist_root)
    assert labels is not None
    assert labels.tolist() == list(range(6))
    test = load_test_images("mnist", data_root=mnist_root, image_size=28, progress=quiet)
    assert test.images.shape == (6, 1, 28, 28)
    assert torch.equal(test.images, 255 - load("mnist", quiet, mnist_root, size=28).images)


@pytest.mark.parametrize("name", ["", "celeba", "folder:", "zip", "Digits"])
def test_an_unknown_data_set_is_refused_with_the_valid_ones(name: str) -> None:
    with pytest.raises(UserError, match="digits, mnist, fashion-mnist, folder:PATH, zip:PATH"):
        check_dataset_name(name)


def test_each_epoch_shows_every_image_once_in_a_new_order() -> None:
    first, second = batch_indices(3, 0, 100), batch_indices(3, 1, 100)
    assert sorted(first.tolist()) == list(range(100))
    assert first.tolist() != second.tolist()
    assert batch_indices(3, 1, 100).tolist() == second.tolist()
    assert batch_indices(4, 1, 100).tolist() != second.tolist()


@given(
    seed=st.integers(0, 2**64),
    start=st.integers(0, 200),
    lengths=st.lists(st.integers(1, 30)),
    count=st.integers(1, 40),
)
def test_slices_of_any_length_join_to_complete_passes(seed: int, start: int, lengths: list[int], count: int) -> None:
    passes = torch.cat([batch_indices(seed, epoch, count) for epoch in range((start + sum(lengths)) // count + 1)])
    position = start
    for length in lengths:
        part = stream_indices(seed, position, length, count)
        assert part.tolist() == passes[position : position + length].tolist()
        position += length


def test_a_batch_may_span_two_passes_without_losing_an_image() -> None:
    batches = [stream_indices(3, 4 * step, 4, 6).tolist() for step in range(3)]
    shown = [index for batch in batches for index in batch]
    assert sorted(shown[:6]) == sorted(shown[6:]) == list(range(6))
