from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from trainer.data.datasets import (
    ImageData,
    batch_indices,
    check_dataset_name,
    load_images,
    load_labels,
    load_test_images,
    normal_name,
    rows_on_device,
    stream_indices,
    to_unit_range,
)
from trainer.errors import UserError
from trainer.progress import Progress


def load(name: str, progress: Progress, root: Path = Path("nowhere"), size: int = 32) -> ImageData:
    return load_images(name, data_root=root, image_size=size, max_corrupt_images=0, progress=progress)


@pytest.mark.parametrize("size", [8, 28, 32])
def test_digits_are_the_1797_of_scikit_learn_at_any_size(quiet: Progress, size: int) -> None:
    data = load("digits", quiet, size=size)
    assert data.images.shape == (1797, 1, size, size)
    assert data.images.dtype == torch.uint8
    assert data.images.max() == 255
    assert data.images.min() == 0


@pytest.mark.parametrize("size", [(32, 32), (28, 28), (4, 4), (20, 48)])
def test_data_sets_are_resized_exactly_as_torchvision_resizes(
    quiet: Progress, mnist_root: Path, size: tuple[int, int]
) -> None:
    original = load("mnist", quiet, mnist_root, size=28).images
    resized = load_images("mnist", data_root=mnist_root, image_size=size, max_corrupt_images=0, progress=quiet).images
    assert torch.equal(resized, resize(original, list(size), InterpolationMode.BICUBIC, antialias=True))


def test_pixels_are_scaled_to_the_range_of_a_tanh() -> None:
    pixels = torch.tensor([[[[0, 255]]]], dtype=torch.uint8)
    assert to_unit_range(pixels).flatten().tolist() == [-1.0, 1.0]


def test_rows_are_sent_in_the_order_asked_for() -> None:
    images = torch.arange(12, dtype=torch.uint8).view(3, 1, 2, 2)
    assert torch.equal(rows_on_device(images, torch.tensor([2, 0]), torch.device("cpu")), images[[2, 0]])


def test_mnist_has_labels_and_test_images(quiet: Progress, mnist_root: Path) -> None:
    labels = load_labels("mnist", mnist_root)
    assert labels is not None
    assert labels.tolist() == list(range(6))
    test = load_test_images("mnist", data_root=mnist_root, image_size=28, progress=quiet)
    assert test.images.shape == (6, 1, 28, 28)
    assert torch.equal(test.images, 255 - load("mnist", quiet, mnist_root, size=28).images)


def test_stacked_mnist_has_labels_and_test_images(quiet: Progress, mnist_root: Path) -> None:
    data, labels = load("stacked-mnist", quiet, mnist_root, size=4), load_labels("stacked-mnist", mnist_root)
    assert data.images.shape == (128_000, 3, 4, 4)
    assert labels is not None
    digits = load("mnist", quiet, mnist_root, size=4).images
    red, green, blue = (labels // factor % 10 for factor in (100, 10, 1))  # the labels of the tiny MNIST are indices
    for channel, digit in enumerate((red, green, blue)):
        assert torch.equal(data.images[:, channel], digits[digit, 0])
    test = load_test_images("stacked-mnist", data_root=mnist_root, image_size=4, progress=quiet)
    assert test.images.shape == (26_000, 3, 4, 4)
    assert not torch.equal(test.images, data.images[:26_000])


def test_cifar10_has_labels_and_test_images(quiet: Progress, cifar_root: Path) -> None:
    data, labels = load("cifar10", quiet, cifar_root, size=64), load_labels("cifar10", cifar_root)
    assert data.images.shape == (10, 3, 64, 64)
    assert labels is not None
    assert labels.tolist() == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
    assert load_test_images("cifar10", data_root=cifar_root, image_size=32, progress=quiet).images.shape[0] == 2


def test_celeba_is_cropped_to_its_central_square(quiet: Progress, tmp_path: Path) -> None:
    folder = tmp_path / "celeba" / "img_align_celeba"
    folder.mkdir(parents=True)
    picture = Image.new("RGB", (178, 218), "red")
    picture.paste("blue", (0, 20, 178, 198))
    picture.save(folder / "000001.jpg", quality=95)
    (folder / "000002.jpg").write_bytes(b"not an image")
    data = load_images("celeba", data_root=tmp_path, image_size=64, max_corrupt_images=1, progress=quiet)
    assert data.images.shape == (1, 3, 64, 64)
    assert data.images[0, 0, 2:-2].max() < 40  # no red
    assert len(data.skipped) == 1
    assert load_labels("celeba", tmp_path) is None
    with pytest.raises(UserError, match="--split test: celeba has no test images"):
        load_test_images("celeba", data_root=tmp_path, image_size=64, progress=quiet)


@pytest.mark.parametrize("name", ["", "imagenet", "folder:", "zip", "Digits"])
def test_an_unknown_data_set_is_refused_with_the_valid_ones(name: str) -> None:
    with pytest.raises(UserError, match="digits, mnist, fashion-mnist, stacked-mnist, cifar10, celeba, folder:PATH"):
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


@pytest.mark.parametrize(
    ("name", "normal"),
    [
        ("digits", "digits"),
        ("folder:faces/", "folder:faces"),
        ("folder:./a/../faces", "folder:faces"),
        ("zip:/data/my faces.zip", "zip:/data/my faces.zip"),
    ],
)
def test_paths_of_data_sets_have_one_form(name: str, normal: str) -> None:
    assert normal_name(name) == normal


def test_a_home_folder_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert normal_name("folder:~/faces") == f"folder:{tmp_path}/faces"
