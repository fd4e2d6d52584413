"""The interface of all kinds of training: what the loop, the checkpoints and the command line need.

`gan.py` and `cyclegan.py` implement it; the table in `kinds.py` finds the one for a config.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image
from torch import Tensor

from trainer.metrics.scorer import Scores
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolder
from trainer.runs.state import TrainingState

Measurements = Mapping[str, Tensor | None]  # scalars on the training device, so that reading them can wait
Row = Mapping[str, Any]  # a line of metrics.jsonl


@dataclass(frozen=True)
class Evaluation:
    """The result of one evaluation of the networks."""

    score: float | None  # value of the metric that chooses the best checkpoint; None if it does not apply to the data
    metrics: Mapping[str, float]  # everything measured, by name
    protocol: Row  # how it was measured: numbers of images, split; recorded with the metrics
    text: str  # for the user
    larger_is_better: bool = False  # of the score


class Training(ABC):
    """The networks, optimisers and data of a run, and its training step.

    Attributes:
        state: what a checkpoint holds.
        data_name: name of the data set, for messages.
        data_images: number of training images.
        data_sha256: SHA-256 of all pixels, which --resume compares.
        images_per_epoch: real images in one pass over the data.
        output_size: height in pixels of the images that the networks make now.
        fade: weight of the newest stage of a growing network; 1 otherwise.
        keep_epochs: save the networks to a separate file after every N-th epoch; None: never.
        depends_on_length: whether a step depends on the length of the run.
    """

    state: TrainingState
    data_name: str
    data_images: int
    data_sha256: str
    images_per_epoch: int
    output_size: int
    fade: float = 1.0
    keep_epochs: int | None = None
    depends_on_length: bool = False

    @property
    @abstractmethod
    def batch_size(self) -> int:
        """Real images in the next step, over all processes."""

    @property
    def about_to_grow(self) -> bool:
        """Whether the next step trains on larger images than the last one."""
        return False

    def work(self, images_seen: int) -> float:
        """The work of training on this many real images, in any unit; for estimates of the time left."""
        return float(images_seen)

    @abstractmethod
    def train_step(self, progress: float) -> Measurements:
        """Takes one step on `batch_size` images; `progress` is the completed share of the run, 0..1."""

    @abstractmethod
    def describe(self, row: Row) -> str:
        """The measurements of a step as text, for the user."""

    @abstractmethod
    def sample(self) -> Image.Image:
        """A picture of the networks' outputs for the same inputs every time."""

    @abstractmethod
    def sample_spread(self) -> float | None:
        """How much those images differ, relative to real ones; see runs/collapse.py. None if undefined."""

    @abstractmethod
    def evaluate(self) -> Evaluation:
        """Scores the networks."""

    def prepare_evaluations(self, progress: Progress) -> None:  # noqa: B027  (only metrics in features need it)
        """Loads or trains what `evaluate` needs; called before the first step, so that an error shows early.

        Raises:
            UserError: something is missing.
        """

    def measure_floor(self) -> Scores | None:
        """The metrics of real images against other real images, at the current size; None if they do not exist."""
        return None

    @abstractmethod
    def draw_figures(self, run: RunFolder) -> None:
        """Draws everything under figures/ from what the run has written so far."""

    def restored(self, output_size: int, fade: float) -> None:  # noqa: B027  (only growing networks need it)
        """Called after `state` is set from a checkpoint, with the size and fade of its last step."""
