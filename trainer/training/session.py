"""The state of a run in one process: its position, its measurements, and all output.

Measurements stay on the training device until a line is due, so that a GPU does not wait after every step.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ganserve.metrics import METRICS, STANDARD_ERROR
from trainer.config import AnyConfig
from trainer.errors import TrainingDivergedError, UserError
from trainer.memory import peak_memory_gb
from trainer.parallel import is_first, means_of_all, together
from trainer.progress import Progress
from trainer.runs import plots
from trainer.runs.collapse import Notice, Watch
from trainer.runs.run_folder import CheckpointMetadata, RunFolder
from trainer.runs.run_log import RunLog, curves_of_evaluation, curves_of_steps
from trainer.runs.state import TrainingState
from trainer.runs.verdict import VERDICTS, Verdict
from trainer.training.base import Evaluation, Measurements, Training
from trainer.training.estimate import total_steps


@dataclass(frozen=True)
class Summary:
    """How a run ended."""

    run: Path
    step: int
    images_seen: int
    images_per_s: float
    train_seconds: float
    best_score: float | None
    output_size: int  # height in pixels of the images that the networks make now
    interrupted: bool
    given_up: bool  # by --on-collapse stop
    notices: Sequence[Notice]  # all warnings of this run
    last: Mapping[str, float | None]  # metrics of the last evaluation and their standard errors, by name
    best: Mapping[str, float | None]  # the same of the best checkpoint
    floor: Mapping[str, Any]  # of real images against other real images, at this size; empty if not measured


@dataclass
class Session:
    """The state of a run in one process."""

    config: AnyConfig
    run: RunFolder
    training: Training
    progress: Progress
    train_seconds: float = 0.0
    evaluation: Evaluation | None = None  # the last one
    scored_step: int = 0  # of that evaluation
    planned_step: int = 0  # of the last save that follows from the step alone
    best_score: float | None = None
    best_size: int = 0  # pixels; output size of the best checkpoint
    pending: list[tuple[int, int, Measurements]] = field(default_factory=list)  # unread: step, images seen, values
    logs: Sequence[RunLog] = ()  # receive a copy of what the run folder receives
    notices: list[Notice] = field(default_factory=list)  # all warnings of this run
    given_up: bool = False  # by --on-collapse stop
    floors: dict[int, Mapping[str, Any]] = field(default_factory=dict)  # by image size
    began_s: float = field(default_factory=time.perf_counter)  # see `begin`
    images_at_start: int = 0
    told: tuple[int, float] = (0, 0.0)  # images seen and seconds trained at the last row about resources
    verdict: Verdict = field(init=False)
    state: TrainingState = field(init=False)
    watch: Watch = field(init=False)

    def __post_init__(self) -> None:
        self.state = self.training.state
        self.watch = Watch(self.training.images_per_epoch)
        self.verdict = Verdict(self.config.remedy, self.config.score_metric)

    @property
    def epoch(self) -> int:
        """Complete passes over the data."""
        return self.state.images_seen // self.training.images_per_epoch

    @property
    def length(self) -> tuple[int, int]:
        """The completed and the total length, both in steps or both in real images."""
        if self.config.steps is not None:
            return self.state.step, self.config.steps
        total = self.config.images or (self.config.epochs or 0) * self.training.images_per_epoch
        return min(self.state.images_seen, total), total

    @property
    def finished(self) -> bool:
        """Whether the run has reached its length."""
        done, total = self.length
        return done >= total

    @property
    def images_per_s(self) -> float:
        """Real images per second of training."""
        return self.state.images_seen / max(self.train_seconds, 1e-9)

    @property
    def step_text(self) -> str:
        """The step of the last one, such as "50/1500"; the share of the run instead if their number is unknown."""
        done, total = self.length
        steps = total_steps(self.config, self.training.images_per_epoch)
        return f"{self.state.step}/{steps}" if steps is not None else f"{self.state.step}, {done / total:.0%}"

    @property
    def seconds_left(self) -> float:
        """Estimated from the time since the start of this process, with scores, samples and checkpoints."""
        done, total = self.length
        left = total - done if self.config.steps is None else (total - done) * self.training.batch_size
        seen, work = self.state.images_seen, self.training.work
        passed_s = time.perf_counter() - self.began_s
        return (work(seen + left) - work(seen)) * passed_s / max(work(seen) - work(self.images_at_start), 1.0)

    def begin(self) -> None:
        """Starts the clock of `seconds_left`: called before the first step of this process."""
        self.began_s = time.perf_counter()
        self.images_at_start = self.state.images_seen
        self.told = (self.state.images_seen, self.train_seconds)

    def restore(self) -> int:
        """Restores the last checkpoint if there is one; returns its step, or 0.

        Raises:
            UserError: the data has changed, or the run is already longer than the config.
            RunFolderError: the checkpoint is damaged, or belongs to another config.
        """
        with together():
            step = self._load_last() if self.run.checkpoint_path("last").is_file() else 0
        with together():
            if is_first():
                self.run.clean_up()
                if self.training.depends_on_length and _length_of(self.run.read_config()) != _length_of(self.config):
                    self.progress.say(
                        "the learning rate decays over the new length, so the result differs from a run that had this"
                        " length from the start"
                    )
                self.run.write_config(self.config)
                self.run.metrics.rewind(step, warnings=VERDICTS)  # the end of the run judges it again
        with together():
            for row in self.run.metrics.read():
                self.notices += self.watch.see(row)
                self.verdict.see(row)
                if row["kind"] == "floor":
                    self.floors[row["image_size"]] = row
        return step

    def _load_last(self) -> int:
        training, metadata = self.training, self.run.read_metadata()
        if metadata.data_sha256 != training.data_sha256:
            raise UserError(
                f"--resume: the images of {training.data_name} are not those that this run began with"
                f" ({training.data_images} now, {metadata.data_images} then); restore them, say where they are with"
                " --dataset PATH, or start a new run"
            )
        self.run.load_checkpoint(self.state)
        done, total = self.length
        if done > total or (self.config.steps is None and metadata.images_seen - total >= self.config.batch_size):
            raise UserError(
                f"--epochs, --steps or --images: this run is at step {metadata.step}, image {metadata.images_seen}"
                " already; give at least as many"
            )
        self.train_seconds = metadata.train_seconds
        self.best_score, self.best_size = metadata.best_score, metadata.best_size
        best = self._best_metrics()
        if best and self.config.score_metric not in best:  # an earlier version chose by another metric
            self.best_score = None
        self.planned_step = metadata.planned_step
        training.restored(metadata.output_size, metadata.fade)
        return metadata.step

    def log_steps(self, *, tell: bool = True) -> None:
        """Reads the pending measurements and appends them to metrics.jsonl.

        Args:
            tell: also print the newest.

        Raises:
            TrainingDivergedError: one of them is not finite.
        """
        if not self.pending:
            return
        started = time.perf_counter()
        rows = self._read_pending()
        self.train_seconds += time.perf_counter() - started  # on a GPU, reading waits for the steps
        finite = list(
            itertools.takewhile(
                lambda row: all(math.isfinite(value) for value in row.values() if isinstance(value, float)), rows
            )
        )
        finite = [row | {"images_per_s": round(self.images_per_s, 1)} for row in finite]
        resources = [self._resources(finite[-1]["step"])] if finite else []
        self.record(finite + resources)
        for log in self.logs:
            if finite:
                log.scalars(finite[-1]["step"], curves_of_steps(finite) | curves_of_steps(resources))
        if len(finite) < len(rows):
            raise TrainingDivergedError(self._diverged(rows[len(finite)]["step"], "a loss"))
        if not tell:
            return
        newest = dict(rows[-1])
        for row in reversed(rows):  # show the last value of what is not measured at every step
            newest |= {key: value for key, value in row.items() if newest[key] is None}
        digits = 0 if self.images_per_s >= 10 else 1
        self.progress.say(
            f"[step {self.step_text}] {self.training.describe(newest)}"
            f" {self.images_per_s:.{digits}f} images/s {_clock(self.seconds_left)} left"
        )

    def _resources(self, step: int) -> dict[str, Any]:
        """The row about the speed since the last one, and about memory."""
        images, seconds = self.state.images_seen - self.told[0], self.train_seconds - self.told[1]
        self.told = (self.state.images_seen, self.train_seconds)
        memory = {name: round(size, 3) for name, size in peak_memory_gb(self.state.device).items()}
        return {
            "kind": "resources",
            "step": step,
            "recent_images_per_s": round(images / max(seconds, 1e-9), 1),
            **memory,
        }

    def _read_pending(self) -> list[dict[str, Any]]:
        """The pending rows, with the mean of what each process measured on its share of the batch."""
        values = [value for *_, measured in self.pending for value in measured.values() if value is not None]
        means = iter(means_of_all(values))
        rows = [
            {
                "kind": "step",
                "step": step,
                "epoch": (images - 1) // self.training.images_per_epoch + 1,
                "images": images,
                **{name: None if value is None else next(means).item() for name, value in measured.items()},
            }
            for step, images, measured in self.pending
        ]
        self.pending.clear()
        return rows

    def record(self, rows: Sequence[dict[str, Any]]) -> None:
        """Appends rows to metrics.jsonl, each followed by the warnings that it causes; prints the warnings."""
        written: list[dict[str, Any]] = []
        notices: list[Notice] = []
        for row in rows:
            found = self.watch.see(row)
            self.verdict.see(row)
            notices += found
            written += [row, *map(_row_of, found)]
        if is_first():
            self.run.metrics.append(written)
        self.given_up = self.given_up or (bool(notices) and self.config.on_collapse == "stop")
        for notice in notices:
            self.progress.say(f"warning: step {notice.step}: {notice.text}")
        self._log(notices)

    def _log(self, notices: Sequence[Notice]) -> None:
        self.notices += notices
        for notice in notices:
            for log in self.logs:
                log.text(notice.step, f"warning/{notice.name}", notice.text)

    def save_is_due(self, *, epoch_ended: bool) -> bool:
        """Whether a grid and a checkpoint follow this step; depends on the step alone, not on interruptions."""
        step, config, training = self.state.step, self.config, self.training
        if step % config.checkpoint_every_steps == 0 or training.about_to_grow:
            return True
        interval = config.sample_every_steps
        return epoch_ended and (step // interval > self.planned_step // interval or self._keeps_epoch())

    def _keeps_epoch(self) -> bool:
        """Whether the networks are kept, if an epoch has ended."""
        keep_epochs = self.training.keep_epochs
        return keep_epochs is not None and self.epoch % keep_epochs == 0

    def save(self, *, planned: bool, scheduled: bool, epoch_ended: bool) -> None:
        """Samples, evaluates if an evaluation is due, and writes a checkpoint.

        Evaluations depend on the step alone, so that an interruption does not change which checkpoint is best. A run
        that is extended past its end has one more. For the same reason, the watch sees scheduled samples only.

        Args:
            planned: `save_is_due` at this step.
            scheduled: planned, or at the end of the run.
            epoch_ended: by this step.

        Raises:
            TrainingDivergedError: a weight is not finite.
        """
        self.log_steps(tell=False)
        if not scheduled:
            self.progress.say(f"stopping after step {self.state.step}: saving a checkpoint")
        step, training, interval = self.state.step, self.training, self.config.evaluate_every_steps
        grid = training.sample()
        plots.save_image(grid, self.run.samples / f"step-{step:08d}.png")
        for log in self.logs:
            log.image(step, "samples", grid)
        if scheduled:
            share = training.sample_spread()
            self.record([{"kind": "samples", "step": step, "images": self.state.images_seen, "sample_spread": share}])
        due = planned and step // interval > self.planned_step // interval
        if planned:
            self.planned_step = step
        best = (due or self.finished or training.about_to_grow) and self._evaluate()
        self._checkpoint(best=best, epoch_ended=epoch_ended)
        for log in self.logs:
            log.flush()

    def _evaluate(self) -> bool:
        """Scores the networks; returns whether they are the best so far.

        Networks that make larger images than before always count as the best. So do the newest if there is no score.
        """
        training, step = self.training, self.state.step
        self.evaluation = evaluation = training.evaluate()
        self.scored_step = step
        floor = self._floor()
        self.record([{"kind": "evaluation", "step": step, **evaluation.metrics, **evaluation.protocol}])
        for log in self.logs:
            log.scalars(step, curves_of_evaluation(evaluation.metrics, floor))
        score, best_score = evaluation.score, self.best_score
        larger = training.output_size > self.best_size
        best = larger or score is None or best_score is None
        if score is not None and best_score is not None:
            best = best or (score > best_score if evaluation.larger_is_better else score < best_score)
        if best:
            self.best_score, self.best_size = evaluation.score, training.output_size
        self.progress.say(f"[step {step}]  {evaluation.text}{' (best so far)' if best else ''}")
        return best

    def _floor(self) -> Mapping[str, Any]:
        """The floor's row at the current image size, measured before its first evaluation; empty if there is none."""
        size = self.training.output_size
        if size not in self.floors and (scores := self.training.measure_floor()) is not None:
            self.floors[size] = {"kind": "floor", "step": self.state.step, **scores.metrics, **scores.protocol}
            self.record([dict(self.floors[size])])
            self.progress.say(f"real against real images ({scores.protocol['real_images']} each): {scores.text}")
        return self.floors.get(size, {})

    def _judge(self) -> None:
        """Appends the warnings about the figures at the end; the summary prints them."""
        notices = self.verdict.notices()
        self.run.metrics.append(map(_row_of, notices))
        self._log(notices)
        for log in self.logs:
            log.flush()

    def _checkpoint(self, *, best: bool, epoch_ended: bool) -> None:
        self.log_steps(tell=False)
        training, state = self.training, self.state
        tensors = [tensor for network in state.networks.values() for tensor in network.state_dict().values()]
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
            raise TrainingDivergedError(self._diverged(state.step, "a weight"))
        scored = self.evaluation is not None and self.scored_step == state.step
        metadata = CheckpointMetadata(
            step=state.step,
            images_seen=state.images_seen,
            counters=state.counters,
            train_seconds=self.train_seconds,
            output_size=training.output_size,
            fade=training.fade,
            metrics=dict(self.evaluation.metrics) if self.evaluation is not None and scored else {},
            best_score=self.best_score,
            best_size=self.best_size,
            planned_step=self.planned_step,
            data_images=training.data_images,
            data_sha256=training.data_sha256,
        )
        if epoch_ended and self._keeps_epoch():
            self.run.keep_networks(state, metadata, self.epoch)
        self.run.save_checkpoint(state, metadata, best=best)  # last, so that a kill before it repeats everything

    def finish(self, *, interrupted: bool) -> Summary:
        """Draws the figures; returns the summary."""
        run, training, state = self.run, self.training, self.state
        with together():
            if is_first() and self.finished and state.step and not run.checkpoint_path("best").is_file():
                # The run was interrupted at what is now its last step, so it was never evaluated.
                self.save(planned=False, scheduled=True, epoch_ended=False)
            if is_first():
                if self.finished:
                    self._judge()
                self.progress.say("drawing the figures")
                training.draw_figures(run)
        return Summary(
            run=run.path,
            step=state.step,
            images_seen=state.images_seen,
            images_per_s=self.images_per_s,
            train_seconds=self.train_seconds,
            best_score=self.best_score,
            output_size=training.output_size,
            interrupted=interrupted and not self.finished,
            given_up=self.given_up and not self.finished,
            notices=tuple(self.notices),
            last={name: value for name, value in self.verdict.last.items() if _is_figure(name)},
            best=self._best_figures(),
            floor=self.floors.get(training.output_size, {}),
        )

    def _best_metrics(self) -> Mapping[str, float | None]:
        """The metrics of the best checkpoint; empty if there is none."""
        return self.run.read_metadata("best").metrics if self.run.checkpoint_path("best").is_file() else {}

    def _best_figures(self) -> Mapping[str, float | None]:
        """The metrics of the best checkpoint and their standard errors; empty if there is none."""
        metrics = self._best_metrics()
        if not metrics:
            return {}
        step = self.run.read_metadata("best").step
        rows = (row for row in self.run.metrics.read() if row["kind"] == "evaluation" and row["step"] == step)
        recorded: Mapping[str, Any] = next(rows, {})
        return {**{name: value for name, value in recorded.items() if _is_figure(name)}, **metrics}

    def _diverged(self, step: int, what: str) -> str:
        path = self.run.checkpoint_path("last")
        kept = f"the last good checkpoint is {path}" if path.is_file() else "there is no checkpoint yet"
        return f"step {step}: {what} is NaN or infinite; {kept}. Try a smaller --lr, or another --seed"


def _length_of(config: AnyConfig) -> tuple[int | None, ...]:
    return config.epochs, config.steps, config.images


def _is_figure(name: str) -> bool:
    return name.removesuffix(STANDARD_ERROR) in METRICS


def _row_of(notice: Notice) -> dict[str, Any]:
    return {"kind": "warning", "step": notice.step, "name": notice.name, "text": notice.text}


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
