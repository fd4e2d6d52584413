from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ganserve.latents import latents_from_seed
from tests.picture_files import noise
from tests.trainer.conftest import small_config
from trainer.data.datasets import ImageData
from trainer.errors import UserError
from trainer.evaluate import evaluation
from trainer.evaluate.evaluation import Request, Result, evaluate, keep
from trainer.evaluate.sources import Facts, LocalSource
from trainer.metrics.measure_names import DEFAULT_MEASURES
from trainer.metrics.scorer import Comparison, Scores
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolder

TRAIN = torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1).expand(20, 1, 8, 8)  # each image has a value of its own
TEST = TRAIN[:10] + 100
REQUEST = Request("folder:photos", Path(), 0, "train", None, ("swd",), 3, torch.device("cpu"))


def bright(latents: NDArray[np.float32]) -> Tensor:
    """Images (n, 1, 8, 8) whose brightness is 200 and a little more for a larger latent."""
    return torch.from_numpy(200 + 10 * latents[:, :1, None, None]).expand(-1, 1, 8, 8).to(torch.uint8)


SOURCE = LocalSource(Facts("a source", "onnx", size=(8, 8)), 2, bright)


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[Comparison]:
    """What was to be scored; the data sets are TRAIN and TEST, at the size that they are asked for in."""
    found: list[Comparison] = []

    def score(images: Comparison, _measures: Sequence[str]) -> Scores:
        found.append(images)
        return Scores({"sliced_wasserstein_distance": float(len(found))}, {"split": images.split})

    def loaded(images: Tensor) -> Any:
        return lambda name, *, image_size, **_: ImageData(name, images[..., : image_size[0], : image_size[1]])

    monkeypatch.setattr(evaluation, "score", score)
    monkeypatch.setattr(evaluation, "load_images", loaded(TRAIN))
    monkeypatch.setattr(evaluation, "load_test_images", loaded(TEST))
    return found


def values(images: Tensor) -> set[int]:
    return set(images[:, 0, 0, 0].tolist())


def test_the_images_of_a_seed_are_compared_with_as_many_real_ones(compared: list[Comparison], quiet: Progress) -> None:
    result = evaluate(SOURCE, dataclasses.replace(REQUEST, images=6), quiet)
    [images] = compared
    assert torch.equal(images.fakes, bright(latents_from_seed(3, 6, 2)))
    assert len(values(images.reals)) == 6
    assert values(images.reals) <= set(range(20))
    other = dataclasses.replace(REQUEST, images=6, seed=4)
    evaluate(SOURCE, other, quiet)
    assert values(compared[1].reals) != values(images.reals)
    assert result.scores.metrics == {"sliced_wasserstein_distance": 1}
    # The path of a folder of images is private.
    origin = {"source": "a source", "computed_by": "onnx", "dataset": "folder"}
    assert result.scores.protocol == origin | {"split": "train"}


def test_all_real_images_are_used_unless_a_number_is_given(
    compared: list[Comparison], quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(SOURCE, REQUEST, quiet)
    assert (len(compared[0].fakes), len(compared[0].reals)) == (20, 20)
    evaluate(SOURCE, dataclasses.replace(REQUEST, images=30), quiet)
    assert (len(compared[1].fakes), len(compared[1].reals)) == (30, 20)
    monkeypatch.setattr(evaluation, "MOST_IMAGES", 7)
    evaluate(SOURCE, REQUEST, quiet)
    assert (len(compared[2].fakes), len(compared[2].reals)) == (7, 7)


def test_a_source_of_unknown_size_is_asked_for_an_image_first(compared: list[Comparison], quiet: Progress) -> None:
    unknown = LocalSource(Facts("a file", "torchscript"), 2, lambda latents: bright(latents)[..., :4, :4])
    evaluate(unknown, REQUEST, quiet)
    assert compared[0].reals.shape == (20, 1, 4, 4)


def test_test_images_are_compared_with_the_classifier_of_the_training_images(
    compared: list[Comparison], quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Tensor] = []
    monkeypatch.setattr(evaluation, "classifier_of", lambda data, *_: shown.append(data.images))
    for split, reals in (("test", TEST), ("train", TRAIN)):
        evaluate(SOURCE, dataclasses.replace(REQUEST, split=split), quiet)
        assert compared[-1].split == split
        assert values(compared[-1].reals) == values(reals)
        assert compared[-1].classifier is not None
        compared[-1].classifier()
        assert torch.equal(shown[-1], TRAIN)


def test_modes_of_images_without_classes_are_refused_before_any_work(quiet: Progress) -> None:
    request = dataclasses.replace(REQUEST, dataset="folder:somewhere", measures=("swd", "modes"))
    with pytest.raises(UserError, match="--measures modes: the images of folder:somewhere have no classes"):
        evaluate(SOURCE, request, quiet)


@pytest.mark.parametrize(("split", "wanted", "counts"), [("train", 6, 6), ("train", 30, 10), ("test", None, 10)])
def test_the_floor_compares_real_images_with_others(
    split: str, wanted: int | None, counts: int, compared: list[Comparison], quiet: Progress
) -> None:
    request = dataclasses.replace(REQUEST, split=split, images=wanted, real_floor=True)
    result = evaluate(SOURCE, request, quiet)
    floor = compared[1]
    assert (len(values(floor.fakes)), len(values(floor.reals))) == (counts, counts)
    assert not values(floor.fakes) & values(floor.reals)
    assert values(floor.fakes) <= values(TRAIN)
    assert values(floor.reals) <= values(TEST if split == "test" else TRAIN)
    assert result.floor is not None
    assert result.floor.metrics == {"sliced_wasserstein_distance": 2}


def test_an_unknown_data_set_is_refused_before_any_image_is_made(quiet: Progress) -> None:
    unused = LocalSource(Facts("a source", "onnx", size=(8, 8)), 2, lambda _: pytest.fail("it was used"))
    with pytest.raises(UserError, match="--dataset 'imagenet'"):
        evaluate(unused, dataclasses.replace(REQUEST, dataset="imagenet"), quiet)


def test_what_was_measured_is_kept_with_its_checkpoint_and_a_torn_line_repaired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder.create(tmp_path, small_config("dcgan", "dcgan-digits"))
    monkeypatch.setattr(RunFolder, "read_metadata", lambda _run, which: SimpleNamespace(step={"last": 7}[which]))
    scores, floor = Scores({"recall": 0.5}, {"split": "train"}), Scores({"recall": 0.75}, {"split": "train"})
    keep(run, "last", Result(scores))
    with run.evaluations.path.open("ab") as file:
        file.write(b'{"kind": "evaluation", "st')  # of a kill
    keep(run, "last", Result(scores, floor))
    row = {"kind": "evaluation", "step": 7, "checkpoint": "last", "recall": 0.5, "split": "train"}
    assert list(run.evaluations.read()) == [row, row, row | {"kind": "floor", "recall": 0.75}]


def test_too_few_images_are_refused_before_the_source_makes_them(
    compared: list[Comparison], quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalSource, "images", lambda *_: pytest.fail("it made them"))
    with pytest.raises(UserError, match=r"^--images 5: metrics need at least 6$"):
        evaluate(SOURCE, dataclasses.replace(REQUEST, images=5), quiet)
    monkeypatch.setattr(evaluation, "load_images", lambda name, **_: ImageData(name, TRAIN[:11]))
    with pytest.raises(UserError, match=r"^--real-floor: halves of 11 images are too few .* at least 12 images"):
        evaluate(SOURCE, dataclasses.replace(REQUEST, real_floor=True), quiet)
    monkeypatch.setattr(evaluation, "load_images", lambda name, **_: ImageData(name, TRAIN[:5]))
    with pytest.raises(
        UserError, match=r"^--dataset: folder:photos has only 5 images; metrics need at least 6, so add"
    ):
        evaluate(SOURCE, REQUEST, quiet)


@pytest.mark.parametrize("channels", [1, 3])
def test_gray_images_are_compared_in_rgb_if_the_source_makes_rgb_with_a_notice(
    channels: int, compared: list[Comparison], quiet: Progress
) -> None:
    made = LocalSource(Facts("a source", "onnx"), 2, lambda latents: bright(latents).expand(-1, channels, -1, -1))
    for split in ("train", "test"):
        evaluate(made, dataclasses.replace(REQUEST, split=split), quiet)
        assert compared[-1].reals.shape[1] == channels
        assert len({tuple(pixel.tolist()) for pixel in compared[-1].reals[:, :, 0, 0]}) == len(compared[-1].reals)
    notice = "note: folder:photos is gray and the images to score are RGB; its images are compared as RGB"
    assert (notice in quiet.console.file.getvalue()) == (channels == 3)  # type: ignore[attr-defined]


def test_images_that_are_not_square_are_scored(tmp_path: Path, quiet: Progress) -> None:
    for number in range(16):
        Image.fromarray(noise(40, 60, 3, seed=number)).save(tmp_path / f"{number}.png")
    wide = LocalSource(
        Facts("a source", "onnx"), 2, lambda latents: bright(latents)[:, :, :1, :1].expand(-1, 3, 16, 24)
    )
    request = dataclasses.replace(REQUEST, dataset=f"folder:{tmp_path}", measures=DEFAULT_MEASURES, real_floor=True)
    result = evaluate(wide, request, quiet)
    assert (result.scores.protocol["image_size"], result.scores.protocol["image_width"]) == (16, 24)
    assert result.floor is not None
    assert (
        0 < result.floor.metrics["sliced_wasserstein_distance"] < result.scores.metrics["sliced_wasserstein_distance"]
    )
    assert all(np.isfinite(value) for value in result.scores.metrics.values())
