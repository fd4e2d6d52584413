"""Collects the evidence for claims: finds their runs, trains missing ones if allowed, and measures them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from benchmarks.claims.claims import Claim
from benchmarks.claims.evidence import Course, Evidence, Metrics, read_curves
from benchmarks.claims.measures import Group, Reals, measure
from benchmarks.claims.runs import OWN_FOLDER, Found, find_runs, finished_run, train_run
from benchmarks.claims.snapshots import load_snapshot
from benchmarks.claims.subjects import FACES, SUBJECTS, Setting, Subject
from trainer.config import AnyConfig, override
from trainer.data.datasets import ImageData, load_images, load_labels, sha256_of, stream_indices
from trainer.errors import TrainingDivergedError, UserError
from trainer.metrics.classifier import FeatureNetwork, feature_network
from trainer.parallel import choose_device
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolderError

SAMPLES = {"quick": 1_000, "full": 10_000}  # real and fake images per snapshot
_NETWORK_PIXELS = 32  # image size of the classifier of a data set
_DATA_KEPT = 2  # data sets in memory


class Interrupted(Exception):  # noqa: N818  # a request, not an error
    """The user stopped the command. Completed runs are kept."""


class BarsOnly(Progress):
    """Shows bars but no log lines: there are dozens of runs, each with its own log."""

    def say(self, line: str) -> None:
        """Prints nothing."""


@dataclass
class Collector:
    """Collects the evidence for claims.

    Attributes:
        runs: the folder to search; new runs go to a subfolder of it.
        setting: scale and data.
        seeds: to train per subject.
        train: whether to train missing runs.
        progress: output for the user.
        stop_requested: polled after every step.
    """

    runs: Path
    setting: Setting
    seeds: Sequence[int]
    train: bool
    progress: Progress
    stop_requested: Callable[[], bool] = lambda: False
    missing: dict[str, str] = field(default_factory=dict)  # by subject, why some seeds are not available
    _found: list[Found] = field(default_factory=list)
    _data: dict[tuple[str, int], ImageData] = field(default_factory=dict)
    _hashes: dict[tuple[str, int], str] = field(default_factory=dict)
    _reals: dict[tuple[str, int], Reals] = field(default_factory=dict)
    _networks: dict[str, FeatureNetwork] = field(default_factory=dict)

    def collect(self, claims: Sequence[Claim]) -> Evidence:
        """The evidence for these claims; `missing` explains what is not available.

        Raises:
            Interrupted: the user stopped the command.
        """
        self._found = find_runs(self.runs, self.progress)
        groups: dict[str, set[Group]] = {}
        for claim in claims:
            for name in claim.subjects:
                groups.setdefault(name, set()).update(claim.groups)
        courses: dict[str, dict[int, Course]] = {name: {} for name in groups}
        for number, (name, wanted) in enumerate(groups.items(), 1):
            subject = SUBJECTS[name]
            untrained, reasons = [], []
            for seed in self.seeds:
                try:
                    run = self._run(subject, seed, f"{number}/{len(groups)}")
                    if run is None:
                        untrained.append(str(seed))
                    else:
                        courses[name][seed] = self._measured(subject, run, tuple(sorted(wanted)))
                except TrainingDivergedError as error:
                    reasons.append(f"seed {seed} diverged ({error})")
                except RunFolderError as error:
                    reasons.append(f"seed {seed}: {error}")
                except UserError as error:
                    reasons.append(str(error))
                    break  # the other seeds would fail too
            if untrained:
                reasons.append(f"seed {', '.join(untrained)} is not trained")
            if reasons:
                self.missing[name] = "; ".join(reasons)
        return Evidence(self.setting.scale, courses)

    def _run(self, subject: Subject, seed: int, position: str) -> Found | None:
        wanted = self.setting.config(subject, seed)
        if not self.train and not any(found.fits(wanted) for found in self._found):
            return None
        data = self._load(wanted)
        steps = self._steps(subject, wanted, data)
        fitting = [found for found in self._found if found.fits(wanted) and self._same_data(found)]
        run = finished_run(fitting, wanted, steps)
        if run is not None or not self.train:
            return run
        name = f"{subject.title}, seed {seed}"
        self.progress.say(
            f"[{position}] training {name}: {max(steps)} batches of {wanted.batch_size} ({wanted.dataset})"
        )
        bars_only = BarsOnly(self.progress.console)
        wanted = override(wanted, {"network.channels": data.channels})
        run, summary = train_run(self.runs, self._found, wanted, steps, data, bars_only, self.stop_requested)
        if summary.interrupted:
            raise Interrupted
        for notice in summary.notices:
            self.progress.say(f"{name}: {notice.text}")
        self._found.append(run)
        return run

    def _measured(self, subject: Subject, found: Found, groups: tuple[Group, ...]) -> Course:
        data = self._load(found.config)
        epochs = subject.epochs(self.setting.scale)
        steps = dict(zip(epochs, self._steps(subject, found.config, data), strict=True))
        curves = read_curves(list(found.run.metrics.read()), max(steps.values()))
        device = choose_device(self.setting.device)
        metrics: dict[int, Metrics] = {}
        for epoch, step in self.progress.track(list(steps.items()), f"measuring {subject.title}"):
            due = tuple(group for group in groups if group != "latents" or epoch == epochs[-1])
            if not due:
                metrics[epoch] = {}
                continue
            reals = self._reals_of(found.config, data)
            generator = load_snapshot(found.run, found.config, step)
            cache = self.runs / OWN_FOLDER / "measured"
            metrics[epoch] = measure(generator, found.config.network.latent_dim, reals, due, cache, device)
        seconds = {
            epoch: float(curves["images"][step - 1] / max(curves["images_per_s"][step - 1], 1e-9))
            for epoch, step in steps.items()
        }
        return Course(metrics, steps, seconds, curves)

    def _steps(self, subject: Subject, config: AnyConfig, data: ImageData) -> list[int]:
        epochs = subject.epochs(self.setting.scale)
        return [self.setting.step_of(subject, epoch, config, len(data)) for epoch in epochs]

    def _same_data(self, found: Found) -> bool:
        """Whether the data set of the run still has the images that it was trained on."""
        if not found.run.checkpoint_path("last").is_file():
            return False
        key = (found.config.dataset, found.config.network.image_size)
        return key in self._hashes and found.run.read_metadata().data_sha256 == self._hashes[key]

    def _load(self, config: AnyConfig) -> ImageData:
        key = (config.dataset, config.network.image_size)
        if key not in self._data:
            while len(self._data) >= _DATA_KEPT:
                self._data.pop(next(iter(self._data)))
            self._data[key] = self._decoded(*key)
            self._hashes[key] = sha256_of(self._data[key].images)
        return self._data[key]

    def _decoded(self, dataset: str, size: int) -> ImageData:
        return load_images(
            dataset,
            data_root=Path(self.setting.data_root),
            image_size=size,
            max_corrupt_images=50,
            progress=self.progress,
        )

    def _reals_of(self, config: AnyConfig, data: ImageData) -> Reals:
        key = (config.dataset, config.network.image_size)
        if key not in self._reals:
            count = min(SAMPLES[self.setting.scale], len(data))
            identity = {"data": self._hashes[key], "images": count, "split": "train", "order_seed": 0}
            images = data.images[stream_indices(0, 0, count, len(data))]
            self._reals[key] = Reals(images, partial(self._network, config.dataset), identity)
        return self._reals[key]

    def _network(self, dataset: str) -> FeatureNetwork:
        """One classifier per data set, so that images of different sizes are compared in the same features."""
        if dataset not in self._networks:
            images = self._decoded(dataset, _NETWORK_PIXELS).images
            labels = load_labels(dataset, data_root=Path(self.setting.data_root))
            device: torch.device = choose_device(self.setting.device)
            self._networks[dataset] = feature_network(images, labels, device, self.progress)
        return self._networks[dataset]


def stands_in(claim: Claim, setting: Setting) -> bool:
    """Whether a stand-in replaces the faces that the claim is about."""
    return setting.faces is None and any(SUBJECTS[name].data == FACES for name in claim.subjects)
