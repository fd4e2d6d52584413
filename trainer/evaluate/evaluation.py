"""One evaluation: loads images of a source and of the data set, scores them, and records the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.config import TRANSLATORS, AnyConfig
from trainer.data.dataset_names import without_path
from trainer.data.datasets import (
    LABELLED,
    ImageData,
    check_dataset_name,
    load_images,
    load_test_images,
    stream_indices,
)
from trainer.data.pixel_store import chosen_rows
from trainer.errors import UserError
from trainer.evaluate.sources import Source
from trainer.metrics.classifier import FeatureNetwork, classifier_of
from trainer.metrics.floor import disjoint_sets
from trainer.metrics.measure_names import LABEL_MEASURES, MOST_IMAGES
from trainer.metrics.scorer import FEWEST_IMAGES, Comparison, Scores, score
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolder, load_generators
from trainer.training.kinds import KINDS, load_data


@dataclass(frozen=True)
class Request:
    """What to measure.

    Attributes:
        dataset: a name of trainer/data/datasets.py, "folder:PATH" or "zip:PATH".
        data_root: folder of torchvision's data sets.
        max_corrupt_images: unreadable images to skip at most.
        split: of the reals: train or test.
        images: number of fakes, and largest number of reals; None: the number of reals, at most 10,000.
        measures: names of `scorer.MEASURES`.
        seed: of the latents, the choice of reals, and the random draws of the measures.
        device: to compute on.
        inception_weights: a file, for FID and KID.
        real_floor: whether to score reals against other reals as well.
    """

    dataset: str
    data_root: Path
    max_corrupt_images: int
    split: str
    images: int | None
    measures: Sequence[str]
    seed: int
    device: torch.device
    inception_weights: Path | None = None
    real_floor: bool = False


@dataclass(frozen=True)
class Result:
    """The scores of an evaluation."""

    scores: Scores
    floor: Scores | None = None  # the scores of other reals: the best that a generator can reach


def evaluate(source: Source, request: Request, progress: Progress) -> Result:
    """Scores the images of a source.

    Raises:
        UserError: the source or the data set is not available, or they do not fit together.
    """
    check_dataset_name(request.dataset)
    if request.dataset not in LABELLED and (needless := set(LABEL_MEASURES) & set(request.measures)):
        names = ", ".join(needless)
        raise UserError(f"--measures {names}: the images of {request.dataset} have no classes; leave it out")
    first = next(source.chunks(1, request.seed))
    data = _Data(request, (first.shape[-2], first.shape[-1]), first.shape[1], progress)
    reals = data.test.images if request.split == "test" else data.train.images
    wanted = request.images or min(MOST_IMAGES, len(reals))
    _check_numbers(request, wanted, len(reals))
    fakes = source.images(wanted, request.seed, progress)
    chosen = chosen_rows(reals, stream_indices(request.seed, 0, min(wanted, len(reals)), len(reals)))
    images = Comparison(
        fakes,
        chosen,
        request.split,
        request.seed,
        request.device,
        data.classifier,
        request.inception_weights,
        progress,
    )
    progress.say(f"comparing {len(fakes)} images of {source.facts.name} with {len(chosen)} of {request.dataset}")
    scores = score(images, request.measures)
    about = {"source": source.facts.name, "computed_by": source.facts.kind}
    scores = replace(scores, protocol=about | {"dataset": request.dataset.partition(":")[0]} | scores.protocol)
    if not request.real_floor:
        return Result(scores)
    progress.say("comparing real images with real images")
    others, halves = _floor_images(data, request, wanted)
    return Result(scores, score(replace(images, fakes=others, reals=halves), request.measures))


def _check_numbers(request: Request, wanted: int, reals: int) -> None:
    """Checks, before the images are made, that there are enough of them.

    Raises:
        UserError: there are too few.
    """
    if reals < FEWEST_IMAGES:
        raise UserError(
            f"--dataset: {without_path(request.dataset)} has only {reals} images; metrics need at least"
            f" {FEWEST_IMAGES}, so add pictures or give another data set"
        )
    if wanted < FEWEST_IMAGES:
        raise UserError(f"--images {wanted}: metrics need at least {FEWEST_IMAGES}")
    if request.real_floor and min(wanted, reals // 2) < FEWEST_IMAGES and request.split == "train":
        raise UserError(
            f"--real-floor: halves of {reals} images are too few to compare; give at least {2 * FEWEST_IMAGES} images,"
            " or leave --real-floor out"
        )


def _floor_images(data: _Data, request: Request, wanted: int) -> tuple[Tensor, Tensor]:
    """Two disjoint sets of real images."""
    train = data.train.images
    if request.split == "test":
        test = data.test.images
        chosen, held_out = (
            stream_indices(request.seed, 0, min(wanted, len(images)), len(images)) for images in (train, test)
        )
        return train[chosen], test[held_out]
    ones, others = disjoint_sets(request.seed, wanted, len(train))
    return train[others], train[ones]


class _Data:
    """The images and the classifier of a data set, each loaded on first use."""

    def __init__(self, request: Request, size: tuple[int, int], channels: int, progress: Progress) -> None:
        self._request = request
        self._size = size
        self._channels = channels  # of the images to score
        self._progress = progress
        self._train: ImageData | None = None
        self._test: ImageData | None = None

    @property
    def train(self) -> ImageData:
        """The training images."""
        if self._train is None:
            request = self._request
            self._train = load_images(
                request.dataset,
                data_root=request.data_root,
                image_size=self._size,
                max_corrupt_images=request.max_corrupt_images,
                progress=self._progress,
            )
            self._train = self._fitting(self._train)
        return self._train

    @property
    def test(self) -> ImageData:
        """The test images."""
        if self._test is None:
            request = self._request
            self._test = load_test_images(
                request.dataset, data_root=request.data_root, image_size=self._size, progress=self._progress
            )
            self._test = self._fitting(self._test)
        return self._test

    def _fitting(self, data: ImageData) -> ImageData:
        """The data in RGB if the images to score are, with a notice."""
        if data.channels == self._channels or self._channels != 3:
            return data
        name = without_path(data.name)
        self._progress.say(f"note: {name} is gray and the images to score are RGB; its images are compared as RGB")
        return data.in_colour()

    def classifier(self) -> FeatureNetwork:
        """The classifier of the training images, for both splits."""
        return classifier_of(self.train, self._request.data_root, self._request.device, self._progress)


def evaluate_translators(
    run: Path, checkpoint: str, config: AnyConfig, device: torch.device, progress: Progress
) -> Scores:
    """The metrics of a checkpoint of a CycleGAN, measured as in training.

    Raises:
        UserError: the data set or the checkpoint is not available.
    """
    networks = [exported.network.state_dict() for exported in load_generators(run, checkpoint)]
    data = load_data(config, progress)
    if config.network.channels == 3 and data.channels == 1:
        progress.say(f"note: {without_path(data.name)} is gray and {run} translates RGB images; its images become RGB")
        data = data.in_colour()
    if data.channels != config.network.channels:
        raise UserError(f"--dataset {data.name}: is in colour, and {run} translates gray images; give gray ones")
    with torch.random.fork_rng(devices=[]):
        training = KINDS[type(config)].training(config, data, device)
    for name, weights in zip(TRANSLATORS, networks, strict=True):
        training.state.networks[name].load_state_dict(weights)
        training.state.networks[name].eval()
    evaluation = training.evaluate()
    return Scores(dict(evaluation.metrics), {"source": f"{run} ({checkpoint})"} | dict(evaluation.protocol))


def keep(folder: RunFolder, checkpoint: str, result: Result) -> None:
    """Appends the scores to the run's evaluations.jsonl; drops a last line that a kill cut short."""
    step = folder.read_metadata(checkpoint).step
    rows: list[dict[str, Any]] = [_row("evaluation", step, checkpoint, result.scores)]
    if result.floor is not None:
        rows.append(_row("floor", step, checkpoint, result.floor))
    folder.evaluations.rewind(10**15)  # beyond any step: only repairs the last line
    folder.evaluations.append(rows)


def _row(kind: str, step: int, checkpoint: str, scores: Scores) -> dict[str, Any]:
    return {"kind": kind, "step": step, "checkpoint": checkpoint} | scores.metrics | scores.protocol
