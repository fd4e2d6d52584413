"""`python -m trainer.evaluate` scores a run, its bundle and a served model in the same way."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from ganserve.latents import latents_from_seed
from ganserve.metrics import STANDARD_ERROR
from trainer.data import datasets as data
from trainer.data.datasets import load_images, load_test_images, stream_indices
from trainer.errors import UserError
from trainer.evaluate.__main__ import main
from trainer.metrics.scorer import shown
from trainer.metrics.sliced_wasserstein import sliced_wasserstein_distance
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolder, load_generators

SMALL = ("--images", "40", "--device", "cpu")
ALL_BUT_INCEPTION = {
    "sliced_wasserstein_distance",
    "ms_ssim",
    "ms_ssim_real",
    "frechet_distance",
    "precision",
    "recall",
    "density",
    "coverage",
}


def call(*arguments: str | Path | int) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def scored(*arguments: str | Path | int) -> dict[str, Any]:
    done = call(*SMALL, *arguments, "--json")
    assert done.exit_code == 0, done.output
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def test_a_run_is_scored_on_the_images_of_its_seed(trained_run: Path, quiet: Progress) -> None:
    found = scored(trained_run, "--seed", "3", "--measures", "swd")
    (exported,) = load_generators(trained_run, "best")
    with torch.inference_mode():
        images = exported.network(torch.from_numpy(latents_from_seed(3, 40, exported.latent_dim)))
    fakes = ((images + 1) * 127.5).round().clamp(0, 255).byte()
    digits = load_images("digits", data_root=Path(), image_size=32, max_corrupt_images=0, progress=quiet)
    reals = digits.images[stream_indices(3, 0, 40, len(digits))]
    levels = sliced_wasserstein_distance(reals, fakes, seed=3)
    assert found["protocol"]["levels"] == pytest.approx(levels, rel=1e-4)
    assert found["metrics"] == pytest.approx({"sliced_wasserstein_distance": sum(levels) / 2}, rel=1e-4)


def test_a_run_scores_as_its_training_logged(trained_run: Path) -> None:
    run = RunFolder.open(trained_run)
    floor, logged = (row for row in run.metrics.read() if row["kind"] in {"floor", "evaluation"})
    seed, images = run.read_config().seed, run.read_config().evaluation_images
    measures = ["--measures", "swd,ms-ssim,frechet,precision-recall"]
    found = scored(trained_run, "--checkpoint", "last", "--seed", seed, "--images", images, *measures, "--real-floor")
    assert found["metrics"] == {name: logged[name] for name in found["metrics"]}
    assert found["floor"]["metrics"] == {name: floor[name] for name in found["floor"]["metrics"]}
    assert {name: found["protocol"][name] for name in logged if name in found["protocol"]} == {
        name: value for name, value in logged.items() if name in found["protocol"]
    }


@pytest.mark.timeout(240)
def test_a_bundle_and_a_served_model_score_like_their_run(
    trained_run: Path, models: Path, address: str, tmp_path: Path
) -> None:
    expected = scored(trained_run)
    assert expected["metrics"].keys() == ALL_BUT_INCEPTION
    graph, code = (Path(shutil.copy(models / "dcgan" / "1" / name, tmp_path)) for name in ("model.onnx", "model.pt"))
    sources: dict[str, tuple[str | Path, ...]] = {
        "onnx": (models / "dcgan",),
        "torchscript": (models / "dcgan" / "1", "--runtime", "torchscript"),
        "onnx in a bundle": (models / "dcgan" / "1" / "model.onnx",),
        "onnx alone": (graph, "--dataset", "digits"),
        "torchscript alone": (code, "--dataset", "digits", "--latent-dim", "100"),
    }
    served = scored("--address", address, "--model", "dcgan")
    unknown = call("--address", address, "--model", "cat")
    found = {name: scored(*arguments) for name, arguments in sources.items()} | {"served": served}
    for name, other in found.items():
        assert other["metrics"] == pytest.approx(expected["metrics"], rel=1e-2, abs=1e-3), name
        assert other["protocol"]["computed_by"] == name.partition(" ")[0]
        ours = {
            key: value
            for key, value in other["protocol"].items()
            if key not in {"source", "computed_by", "levels"} and not key.endswith(STANDARD_ERROR)
        }
        assert ours == {key: expected["protocol"][key] for key in ours}
    assert unknown.exit_code == 2
    assert "dcgan/1" in unknown.stderr


def test_metrics_of_a_run_are_appended_to_its_evaluations(trained_run: Path) -> None:
    run = RunFolder.open(trained_run)
    with run.evaluations.path.open("ab") as file:
        file.write(b'{"kind": "evaluation", "st')  # as a kill leaves it
    done = call(trained_run, *SMALL, "--checkpoint", "last", "--real-floor", "--measures", "swd,ms-ssim")
    assert done.exit_code == 0, done.output
    row, floor = list(run.evaluations.read())[-2:]
    assert (row["kind"], row["step"], row["checkpoint"]) == ("evaluation", 2, "last")
    assert (floor["kind"], floor["step"]) == ("floor", 2)
    assert row["fake_images"] == row["real_images"] == 40
    assert floor["sliced_wasserstein_distance"] < row["sliced_wasserstein_distance"]
    name = "sliced_wasserstein_distance"
    assert shown(row[name], row[f"{name}{STANDARD_ERROR}"]) in done.output
    assert "evaluations.jsonl" in done.output
    table = done.output.partition("Metrics, with their standard errors")[2].partition("SWD: ")[0].splitlines()
    assert table[1].split() == ["metric", "value", "reals", "better"]
    assert all(len(line) <= 80 for line in table)


def test_the_table_says_what_each_metric_is_and_how_it_was_measured(trained_run: Path) -> None:
    done = call(trained_run, *SMALL)
    assert done.exit_code == 0, done.output
    for word in ("SWD", "MS-SSIM", "FD", "precision", "recall", "density", "coverage", "smaller", "larger"):
        assert word in done.output
    assert re.search(r"protocol: .*real_images 40.*feature_accuracy 0\.\d+", done.output)


def test_out_also_writes_the_json_to_a_file(trained_run: Path, tmp_path: Path) -> None:
    content = scored(trained_run, "--measures", "ms-ssim", "--out", tmp_path / "scores.json")
    assert json.loads((tmp_path / "scores.json").read_text()) == content


def test_the_real_floor_compares_disjoint_real_images(trained_run: Path) -> None:
    # Half of the 1,797 digits is fewer than requested.
    done = call(trained_run, "--images", "1000", "--measures", "ms-ssim", "--real-floor", "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert "the floor compares 898" in done.output


def test_a_folder_of_images_uses_a_classifier_of_rotations(models: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for index in range(30):
        pixels = generator.integers(0, 256, (32, 32), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    found = scored(models / "dcgan", "--dataset", f"folder:{tmp_path}", "--measures", "frechet")
    assert found["protocol"]["feature_task"] == "rotations"
    assert (found["protocol"]["dataset"], found["protocol"]["real_images"]) == ("folder", 30)


def test_a_cyclegan_is_scored_as_in_training(cycle_run: Path) -> None:
    done = call(cycle_run, "--json", "--device", "cpu")
    assert done.exit_code == 0, done.output
    metrics = json.loads(done.stdout)["metrics"]
    run = RunFolder.open(cycle_run)
    (trained,) = [row for row in run.metrics.read() if row["kind"] == "evaluation"]
    assert metrics == pytest.approx({name: trained[name] for name in metrics}, rel=1e-4)
    assert {"cycle_l1", "identity_l1", "paired_l1", "paired_ms_ssim"} <= metrics.keys()
    assert list(run.evaluations.read())[-1]["checkpoint"] == "best"
    assert "L1 unchanged" in call(cycle_run, "--device", "cpu").output


def test_a_cyclegan_is_scored_on_pictures_elsewhere(cycle_run: Path, tmp_path: Path) -> None:
    for part in ("trainA", "trainB", "testA", "testB"):
        (tmp_path / part).mkdir()
        for number in range(2):
            Image.effect_noise((32, 32), 50).save(tmp_path / part / f"{number}.png")
    done = call(cycle_run, "--dataset", tmp_path, "--json", "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["protocol"]["images_a"] == 2
    assert "is gray and" in done.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "SOURCE or --address"),
        (("run", "--address", "127.0.0.1:1", "--model", "a"), "SOURCE or --address"),
        (("--address", "127.0.0.1:1"), "--model is missing"),
        (("--address", "127.0.0.1:1", "--model", "a"), "--address 127.0.0.1:1"),
        (("nowhere",), "not a run folder, bundle or file"),
        (("run", "--checkpoint", "worst"), "--checkpoint"),
        (("run", "--checkpoint", "epoch-0009"), "epoch-0009"),
        (("run", "--measures", "swd,beauty"), "--measures 'beauty'"),
        (("run", "--measures", "fid"), "--inception-weights"),
        (("run", "--inception-weights", "nowhere.pth", "--images", "40"), "--inception-weights nowhere.pth"),
        (("run", "--split", "test"), "--split test: digits"),
        (("run", "--dataset", "imagenet"), "--dataset 'imagenet'"),
        (("run", "--images", "4"), "--images 4: metrics need at least 6"),
        (("run", "--model", "a"), "--model: needs --address"),
        (("alone.onnx", "--version", "1"), "--version: needs --address; for a bundle, give the folder of the version"),
        (("run", "--latent-dim", "4"), "--latent-dim: applies only to a bundle or file, not to a run; leave it out"),
        (("alone.onnx", "--latent-dim", "4"), "--latent-dim: alone.onnx states its latent size"),
        (("run", "--runtime", "onnx"), "--runtime: applies only to a bundle or file, not to a run; leave it out"),
        (("cycle", "--runtime", "onnx"), "--runtime: applies only to a bundle or file, not to a run"),
        (("alone.onnx", "--checkpoint", "best"), "--checkpoint: applies only to a run, not to a bundle or file"),
        (("--address", "127.0.0.1:1", "--model", "a", "--runtime", "onnx"), "--runtime: applies only to a bundle"),
        (("--address", "127.0.0.1:1", "--model", "a", "--checkpoint", "last"), "--checkpoint: applies only to a run"),
        (("cycle", "--measures", "swd"), "--measures: does not apply to a CycleGAN"),
        (("cycle", "--real-floor"), "--real-floor: does not apply to a CycleGAN"),
        (("alone.onnx",), "--dataset: the source does not name"),
    ],
)
def test_a_mistake_is_one_line_with_its_flag(
    flags: tuple[str, ...],
    words: str,
    trained_run: Path,
    cycle_run: Path,
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").symlink_to(trained_run)
    (tmp_path / "cycle").symlink_to(cycle_run)
    shutil.copy(models / "dcgan" / "1" / "model.onnx", tmp_path / "alone.onnx")
    done = call(*flags)
    assert done.exit_code == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.output


def test_split_test_is_refused_for_data_sets_without_test_images(quiet: Progress) -> None:
    for name in ("digits", "folder:somewhere"):
        assert data.load_labels("folder:somewhere", Path()) is None
        with pytest.raises(UserError, match="--split test"):
            load_test_images(name, data_root=Path(), image_size=32, progress=quiet)
    labels = data.load_labels("digits", Path())
    assert labels is not None
    assert torch.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
