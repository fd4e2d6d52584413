from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

from trainer.cache_folder import CACHE_VARIABLE
from trainer.data.datasets import ImageData
from trainer.metrics import classifier as features
from trainer.metrics.classifier import FEATURES, check_informative, classifier_of, feature_network
from trainer.progress import Progress

pytestmark = pytest.mark.usefixtures("classifier_cache")

CPU = torch.device("cpu")


def bars(count: int = 200, size: int = 16) -> tuple[Tensor, Tensor]:
    """Bright images with a dark half, at the top or left: two classes, and four distinct turns."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(180, 256, (count, 1, size, size), generator=generator, dtype=torch.uint8)
    labels = torch.arange(count) % 2
    images[labels == 0, :, : size // 2] //= 4
    images[labels == 1, :, :, : size // 2] //= 4
    return images, labels


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def progress(said: io.StringIO) -> Progress:
    return Progress(Console(file=said, width=300))


def test_classes_are_learnt_and_accuracy_is_measured_on_held_out_images(progress: Progress) -> None:
    images, labels = bars()
    network = feature_network(images, labels, CPU, progress)
    assert (network.metadata.task, network.metadata.classes) == ("labels", 2)
    assert network.metadata.accuracy > 0.9
    right = network.probabilities(images).argmax(1) == labels
    assert right.double().mean() > 0.9


def test_without_labels_quarter_turns_are_classified(progress: Progress) -> None:
    images, labels = bars(400)
    network = feature_network(images[labels == 0], None, CPU, progress)
    assert (network.metadata.task, network.metadata.classes) == ("rotations", 4)
    assert network.metadata.accuracy > 0.9


@pytest.mark.parametrize("size", [4, 16, 64])
def test_images_of_any_size_have_features(size: int, progress: Progress) -> None:
    network = feature_network(*bars(), CPU, progress)
    images = torch.randint(0, 256, (5, 1, size, size), dtype=torch.uint8)
    assert network.features(images).shape == (5, FEATURES)
    torch.testing.assert_close(network.probabilities(images).sum(1), torch.ones(5))


def test_a_network_is_trained_once_and_is_the_same_each_time(
    progress: Progress, said: io.StringIO, classifier_cache: Path
) -> None:
    first = feature_network(*bars(), CPU, progress)
    (kept,) = classifier_cache.rglob("*.safetensors")
    again = feature_network(*bars(), CPU, progress)
    assert said.getvalue().count("training a classifier") == 1
    kept.unlink()
    retrained = feature_network(*bars(), CPU, progress)
    assert said.getvalue().count("training a classifier") == 2
    images = bars()[0]
    for other in (again, retrained):
        assert other.metadata == first.metadata
        assert torch.equal(other.features(images), first.features(images))


def test_other_images_or_labels_get_another_network(progress: Progress, classifier_cache: Path) -> None:
    images, labels = bars()
    sets: list[tuple[Tensor, Tensor | None]] = [(images, labels), (images, 1 - labels), (images, None)]
    for images_of_set, labels_of_set in [*sets, (255 - images, labels)]:
        feature_network(images_of_set, labels_of_set, CPU, progress)
    assert len(list(classifier_cache.rglob("*.safetensors"))) == 4


@pytest.mark.parametrize("damage", [b"", b"no safetensors", None])
def test_a_damaged_network_is_reported_and_trained_again(
    damage: bytes | None, progress: Progress, said: io.StringIO, classifier_cache: Path
) -> None:
    first = feature_network(*bars(), CPU, progress)
    (kept,) = classifier_cache.rglob("*.safetensors")
    content = bytearray(kept.read_bytes())
    content[-3] ^= 64  # in a weight
    kept.write_bytes(bytes(content) if damage is None else damage)
    again = feature_network(*bars(), CPU, progress)
    assert "damaged" in said.getvalue()
    assert again.metadata == first.metadata
    assert feature_network(*bars(), CPU, progress).metadata == first.metadata
    assert said.getvalue().count("damaged") == 1


def test_a_cache_that_cannot_be_written_is_reported_and_skipped(
    progress: Progress, said: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))
    assert feature_network(*bars(), CPU, progress).metadata.accuracy > 0.5
    assert "not writable" in said.getvalue()
    assert CACHE_VARIABLE in said.getvalue()


def test_the_global_random_state_is_unchanged(progress: Progress) -> None:
    state = torch.get_rng_state()
    feature_network(*bars(), CPU, progress)
    assert torch.equal(torch.get_rng_state(), state)


def test_stacked_mnist_is_classified_by_the_network_of_mnist_channel_by_channel(
    monkeypatch: pytest.MonkeyPatch, progress: Progress
) -> None:
    images, labels = bars()
    loaded: list[tuple[str, tuple[int, int]]] = []

    def load(name: str, *, image_size: tuple[int, int], **_: object) -> ImageData:
        loaded.append((name, image_size))
        return ImageData(name, images)

    monkeypatch.setattr(features, "load_images", load)
    monkeypatch.setattr(features, "load_labels", lambda name, _root: labels if name == "mnist" else None)
    stacked = torch.cat([images[:30], images[30:60], images[60:90]], dim=1)
    network = classifier_of(ImageData("stacked-mnist", stacked), Path(), CPU, progress)
    assert loaded == [("mnist", (16, 16))]
    assert (network.metadata.channels, network.metadata.task) == (1, "labels")
    expected = torch.cat([network.features(images[start : start + 30]) for start in (0, 30, 60)], dim=1)
    assert torch.equal(network.features(stacked), expected)


def test_any_other_data_set_has_its_own_classifier(monkeypatch: pytest.MonkeyPatch, progress: Progress) -> None:
    images, labels = bars()
    monkeypatch.setattr(features, "load_labels", lambda name, _root: labels if name == "digits" else None)
    for name, task in (("digits", "labels"), ("folder:bars", "rotations")):
        assert classifier_of(ImageData(name, images), Path(), CPU, progress).metadata.task == task


def test_its_cost_and_accuracy_are_printed_once(progress: Progress, said: io.StringIO, classifier_cache: Path) -> None:
    for _ in range(2):
        feature_network(*bars(), CPU, progress)
    (line,) = (line for line in said.getvalue().splitlines() if " took " in line)
    assert re.fullmatch(
        rf"the classifier took \d+ s, and is right about [\d.]+% of 20 held-out images; kept in {classifier_cache}/.*",
        line,
    )


def test_a_classifier_of_images_without_an_upright_is_said_to_mean_little(
    progress: Progress, said: io.StringIO
) -> None:
    noise = torch.randint(0, 256, (200, 1, 16, 16), dtype=torch.uint8)
    check_informative(feature_network(noise, None, CPU, progress), len(noise), progress)
    assert "mean little here; --best-by sliced_wasserstein_distance" in said.getvalue()


def test_nothing_is_said_of_a_good_classifier(progress: Progress, said: io.StringIO) -> None:
    check_informative(feature_network(*bars(), CPU, progress), 200, progress)
    assert "note: " not in said.getvalue()


def test_a_classifier_of_few_images_is_said_to_be_rough(progress: Progress, said: io.StringIO) -> None:
    check_informative(feature_network(*bars(40), CPU, progress), 40, progress)
    assert "note: the classifier has seen only 40 images" in said.getvalue()
