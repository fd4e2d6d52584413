"""What the loop, the checkpoints and the command line need of a training, whatever its kind.

`gan.py` and `cyclegan.py` are the two kinds; `kinds.py` finds the one that a config means.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image
from torch import Tensor

from trainer.runs.run_folder import RunFolder
from trainer.runs.state import TrainingState

Measurements = Mapping[str, Tensor | None]  # scalars on the training device, so that reading them can wait
Row = Mapping[str, Any]  # a line of metrics.jsonl


@dataclass(frozen=True)
class Evaluation:
    """How good the networks are now."""

    score: float | None  # the metric that chooses the best checkpoint; None if there is nothing to measure by
    metrics: Mapping[str, float]  # all that was measured, by name
    protocol: Row  # how: numbers of images, split; recorded beside the metrics
    text: str  # for the user
    larger_is_better: bool = False  # of the score


class Training(ABC):
    """Networks, optimisers, data, and how they meet in a step.

    Attributes:
        data_name: for messages.
        data_images: how many training images there are.
        data_sha256: of all pixels, so that a resumed run is known to go on with the same data.
        images_per_epoch: real images in one pass over the data.
        score_name: of `Evaluation.score`, short, for the user.
        score_explanation: one line about it, for the user.
    """

    data_name: str
    data_images: int
    data_sha256: str
    images_per_epoch: int
    score_name: str
    score_explanation: str

    @property
    @abstractmethod
    def state(self) -> TrainingState:
        """What a checkpoint holds."""

    @property
    @abstractmethod
    def batch_size(self) -> int:
        """Real images of the next step."""

    @property
    @abstractmethod
    def output_size(self) -> int:
        """Height and width of the images that are made now, in pixels."""

    @property
    def fade(self) -> float:
        """Weight of the newest stage of a network that grows; 1 otherwise."""
        return 1.0

    @property
    def keep_epochs(self) -> int | None:
        """Every how many epochs the networks are kept in files of their own; None: never."""
        return None

    @property
    def depends_on_length(self) -> bool:
        """Whether a step depends on how long the whole training is."""
        return False

    def work(self, images_seen: int) -> float:
        """How much work so many real images are; in any unit, for estimates of the time left."""
        return float(images_seen)

    @property
    def about_to_grow(self) -> bool:
        """Whether the next step trains on larger images than the last one."""
        return False

    @abstractmethod
    def train_step(self, progress: float) -> Measurements:
        """Takes one step, of `batch_size` images; `progress` is the share of the training that is done, 0..1."""

    @abstractmethod
    def describe(self, row: Row) -> str:
        """The measurements of a step, for the user."""

    @abstractmethod
    def sample(self) -> Image.Image:
        """What the networks make of the same inputs every time."""

    @abstractmethod
    def sample_spread(self) -> float | None:
        """How much those images differ from each other, as a share of how much real ones do; see watch.py.

        None if there is nothing to compare.
        """

    @abstractmethod
    def evaluate(self) -> Evaluation:
        """Scores the networks."""

    @abstractmethod
    def draw_figures(self, run: RunFolder) -> None:
        """Draws everything under figures/ from what the run has written so far."""

    def restored(self, output_size: int, fade: float) -> None:  # noqa: B027  (most trainings have nothing to do)
        """Called when the state has been set from a checkpoint; size and fade are those of its last step."""
