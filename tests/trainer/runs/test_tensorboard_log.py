"""A run as TensorBoard's own reader sees it."""

from __future__ import annotations

import io
import itertools
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as PluginEventAccumulator  # type: ignore[import-untyped]
from tensorboard.plugins.hparams import plugin_data_pb2  # type: ignore[import-untyped]
from tensorboard.summary.writer import event_file_writer  # type: ignore[import-untyped]

from tests.trainer.conftest import StopAfter, made_up_images, run_training, small_config
from trainer.errors import TrainingDivergedError
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolder
from trainer.runs.tensorboard_log import TensorBoardLog
from trainer.training.loop import train

pytestmark = pytest.mark.usefixtures("no_figures")

EVERY_KIND = [("dcgan", "dcgan-digits"), ("pggan", "pggan-small"), ("cyclegan", "cyclegan-digits")]


@pytest.fixture(autouse=True)
def _files_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts the counter in file names at 100: readers sort names as text, so file 10 would come before file 9 of the
    same second."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(100))


def read(folder: Path) -> Any:
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0, "tensors": 0})
    return events.Reload()


def curve(events: Any, tag: str) -> dict[int, float]:
    return {point.step: point.value for point in events.Scalars(tag)}


@pytest.mark.parametrize(("model", "preset"), EVERY_KIND)
def test_a_run_has_curves_figures_and_samples(model: str, preset: str, tmp_path: Path, quiet: Progress) -> None:
    config = small_config(model, preset, log_every_steps=2, steps=6)
    run, _ = run_training(config, tmp_path, quiet)
    events = read(run.tensorboard)
    rows = list(run.metrics.read())
    steps = {row["step"]: row for row in rows if row["kind"] == "step"}
    for tag, name in (("loss/d_loss", "d_loss"), ("score/d_real", "d_real"), ("speed/images_per_s", "images_per_s")):
        points = curve(events, tag)
        assert set(points) >= {2, 4, 6}
        for before, step in itertools.pairwise([0, *points]):
            expected = [steps[number][name] for number in range(before + 1, step + 1)]
            assert points[step] == pytest.approx(sum(expected) / len(expected))
    assert ("accuracy/d_accuracy" in events.Tags()["scalars"]) == config.scores_are_probabilities
    assert ("training/resolution" in events.Tags()["scalars"]) == (model == "pggan")
    for row in rows:
        if row["kind"] == "evaluation":
            figures = [name for name in row if f"evaluation/{name}" in events.Tags()["scalars"]]
            assert figures
            for name in figures:
                assert curve(events, f"evaluation/{name}")[row["step"]] == pytest.approx(row[name])
    pictures = events.Images("samples")
    assert [picture.step for picture in pictures] == [int(path.stem[5:]) for path in sorted(run.samples.iterdir())]
    with (
        Image.open(io.BytesIO(pictures[-1].encoded_image_string)) as logged,
        Image.open(max(run.samples.iterdir())) as saved,
    ):
        assert logged.convert("RGB").tobytes() == saved.convert("RGB").tobytes()


def test_resuming_purges_events_after_the_checkpoint(tmp_path: Path, quiet: Progress, stop_after: StopAfter) -> None:
    config = small_config("dcgan", "dcgan-digits", log_every_steps=1, steps=6)
    run = RunFolder.create(tmp_path, config)
    train(config, run, made_up_images(config), quiet, stop_requested=stop_after(3))
    beyond = TensorBoardLog(run.tensorboard, 3, config)
    for step in range(4, 40):
        beyond.scalars(step, {"loss/d_loss": 1e6})
        beyond.text(step, "warning/samples-alike", "gone")
        beyond.image(step, "samples", Image.new("L", (8, 8)))
    beyond.close()
    train(config, run, made_up_images(config), quiet, resume=True)
    events = read(run.tensorboard)
    points = events.Scalars("loss/d_loss")
    assert [point.step for point in points] == [1, 2, 3, 4, 5, 6]
    assert max(point.value for point in points) < 1e6
    assert [picture.step for picture in events.Images("samples")] == [3, 5, 6]
    texts = PluginEventAccumulator(str(run.tensorboard)).Reload()  # TensorBoard's own reader of texts
    assert texts.Tensors("warning/samples-alike/text_summary") == []
    assert len(texts.Tensors("loss/d_loss")) == 6


@pytest.mark.parametrize("cut", [1, 7, 30])
def test_a_truncated_event_does_not_damage_later_ones(
    cut: int, tmp_path: Path, quiet: Progress, stop_after: StopAfter
) -> None:
    config = small_config("dcgan", "dcgan-digits", log_every_steps=1, steps=6)
    run = RunFolder.create(tmp_path, config)
    train(config, run, made_up_images(config), quiet, stop_requested=stop_after(3))
    (file,) = run.tensorboard.iterdir()
    os.truncate(file, file.stat().st_size - cut)
    train(config, run, made_up_images(config), quiet, resume=True)
    assert set(curve(read(run.tensorboard), "loss/d_loss")) >= {1, 2, 4, 5, 6}


def test_a_run_killed_before_its_first_checkpoint_restarts_its_curves(tmp_path: Path, quiet: Progress) -> None:
    config = small_config("dcgan", "dcgan-digits", log_every_steps=1)
    run = RunFolder.create(tmp_path, config)
    before = TensorBoardLog(run.tensorboard, 0, config)
    before.scalars(1, {"loss/d_loss": 1e6})
    before.close()
    train(config, run, made_up_images(config), quiet, resume=True)
    assert len(events := curve(read(run.tensorboard), "loss/d_loss")) == 4
    assert max(events.values()) < 1e6


def test_after_a_failed_run_the_files_are_complete_and_the_threads_stopped(
    tmp_path: Path, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TrainingDivergedError("step 4: a weight is NaN")

    monkeypatch.setattr("trainer.training.session.Session._checkpoint", fail)
    config = small_config("dcgan", "dcgan-digits", log_every_steps=2)
    threads = threading.active_count()
    run = RunFolder.create(tmp_path, config)
    with pytest.raises(TrainingDivergedError):
        train(config, run, made_up_images(config), quiet)
    assert threading.active_count() == threads
    assert list(curve(read(run.tensorboard), "loss/g_loss")) == [2, 4]


def test_the_settings_are_a_text_and_hyperparameters_beside_the_metrics(tmp_path: Path, quiet: Progress) -> None:
    config = small_config("dcgan", "dcgan-digits", steps=2)
    run, _ = run_training(config, tmp_path, quiet)
    events = PluginEventAccumulator(str(run.tensorboard)).Reload()
    (text,) = events.Tensors("config/text_summary")
    assert b'"batch_size": 4' in text.tensor_proto.string_val[0]
    assert b"data_root" not in text.tensor_proto.string_val[0]
    found = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    settings = plugin_data_pb2.HParamsPluginData.FromString(found).session_start_info.hparams
    assert settings["batch_size"].number_value == config.batch_size
    assert settings["network.architecture"].string_value == "dcgan-k4"
    assert settings["betas"].string_value == str(config.betas)
    assert "epochs" not in settings  # not set
    experiment = events.SummaryMetadata("_hparams_/experiment").plugin_data.content
    metrics = plugin_data_pb2.HParamsPluginData.FromString(experiment).experiment.metric_infos
    assert {metric.name.tag for metric in metrics} <= set(read(run.tensorboard).Tags()["scalars"])


def test_warnings_are_texts(tmp_path: Path) -> None:
    log = TensorBoardLog(tmp_path, 0, small_config("dcgan", "dcgan-digits"))
    log.text(7, "warning/samples-alike", "the samples are alike")
    log.close()
    (event,) = read(tmp_path).Tensors("warning/samples-alike/text_summary")
    assert (event.step, event.tensor_proto.string_val) == (7, [b"the samples are alike"])
