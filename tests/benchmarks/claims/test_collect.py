from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from rich.console import Console
from safetensors.torch import load_file

from benchmarks.claims import measures
from benchmarks.claims.claims import Claim
from benchmarks.claims.collect import Collector, Interrupted
from benchmarks.claims.evidence import Evidence
from benchmarks.claims.runs import find_runs, identity
from benchmarks.claims.snapshots import kept_steps, load_snapshot
from benchmarks.claims.subjects import SUBJECTS, Setting
from tests.benchmarks.claims.conftest import STEPS, add_tiny_claim
from tests.trainer.conftest import StopAfter
from trainer.config import AnyConfig
from trainer.errors import RunFolderError, TrainingDivergedError
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolder
from trainer.training.gan import GanTraining

SETTING = Setting("quick", None, "data", "cpu")


def collect(
    runs: Path,
    claim: Claim,
    progress: Progress,
    *,
    train: bool = True,
    seeds: int = 2,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Evidence, dict[str, str]]:
    collector = Collector(runs, SETTING, range(seeds), train, progress, stop)
    return collector.collect([claim]), collector.missing


def own_runs(runs: Path) -> list[Path]:
    return sorted(path for path in (runs / "claims").iterdir() if path.name != "measured")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Evidence]:
    """A folder with a run of each recipe, and its metrics; do not change it."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        claim = add_tiny_claim(patch, folder)
        evidence, missing = collect(folder / "runs", claim, Progress(Console(file=io.StringIO())), seeds=1)
    assert not missing
    return folder / "runs", evidence


@pytest.fixture
def own(trained: tuple[Path, Evidence], tmp_path: Path) -> Path:
    """A copy of these runs that a test may change."""
    return Path(shutil.copytree(trained[0], tmp_path / "runs"))


def first_run(runs: Path) -> tuple[RunFolder, AnyConfig]:
    run = RunFolder.open(own_runs(runs)[0])
    config = run.read_config()
    return run, config


def test_missing_runs_are_listed_and_nothing_is_written(tiny_claim: Claim, tmp_path: Path, quiet: Progress) -> None:
    evidence, missing = collect(tmp_path / "runs", tiny_claim, quiet, train=False)
    assert evidence.seeds(*tiny_claim.subjects) == []
    assert missing == dict.fromkeys(tiny_claim.subjects, "seed 0, 1 is not trained")
    assert not (tmp_path / "runs").exists()


def test_each_missing_run_is_trained_once_with_its_snapshots(
    tiny_claim: Claim, tmp_path: Path, quiet: Progress
) -> None:
    evidence, missing = collect(tmp_path, tiny_claim, quiet)
    assert not missing
    paths = own_runs(tmp_path)
    assert len(paths) == 4
    assert all(kept_steps(RunFolder.open(path)) == set(STEPS.values()) for path in paths)
    course = evidence.courses["tiny-a"][1]
    assert course.steps == STEPS
    assert len(course.curves["d_loss"]) == 6
    assert 0 < course.seconds[1] < course.seconds[3]
    assert "latent_map" not in course.metrics[1]
    assert np.shape(course.metrics[3]["latent_map"]) == (8, 8)

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    again, _ = collect(tmp_path, tiny_claim, quiet, train=False)
    assert again.courses["tiny-a"][1].metrics == course.metrics
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_snapshot_is_the_generator_itself_at_that_step(own: Path) -> None:
    run, config = first_run(own)
    last = load_file(run.checkpoint_path("last"))
    kept = load_snapshot(run, config, 6).state_dict()
    assert all(torch.equal(tensor, last[f"generator.{name}"]) for name, tensor in kept.items())
    assert any(not torch.equal(tensor, last[f"ema_generator.{name}"]) for name, tensor in kept.items())
    (run.path / "snapshots" / "step-00000006.safetensors").unlink()
    from_checkpoint = load_snapshot(run, config, 6).state_dict()
    assert all(torch.equal(tensor, from_checkpoint[name]) for name, tensor in kept.items())
    early = load_snapshot(run, config, 2).state_dict()
    assert any(not torch.equal(tensor, early[name]) for name, tensor in kept.items())


@pytest.mark.parametrize("steps", [1, 5, 8])
def test_a_stopped_command_continues_to_the_same_metrics(
    trained: tuple[Path, Evidence],
    tiny_claim: Claim,
    tmp_path: Path,
    quiet: Progress,
    stop_after: StopAfter,
    steps: int,
) -> None:
    with pytest.raises(Interrupted):
        collect(tmp_path, tiny_claim, quiet, seeds=1, stop=stop_after(steps))
    resumed, missing = collect(tmp_path, tiny_claim, quiet, seeds=1)
    assert not missing
    assert len(own_runs(tmp_path)) == 2
    for name in tiny_claim.subjects:
        assert resumed.courses[name][0].metrics == trained[1].courses[name][0].metrics


def test_other_runs_are_used_and_stay_unchanged(own: Path, tiny_claim: Claim, tmp_path: Path, quiet: Progress) -> None:
    for path in own_runs(own):
        shutil.copytree(path, tmp_path / "sweep" / "runs" / path.name)
    evidence, missing = collect(tmp_path / "sweep", tiny_claim, quiet, train=False, seeds=1)
    assert not missing
    assert evidence.seeds(*tiny_claim.subjects) == [0]


def test_a_run_on_other_images_is_not_used(
    own: Path, tiny_claim: Claim, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.claims.collect.sha256_of", lambda _images: "0" * 64)
    assert collect(own, tiny_claim, quiet, train=False, seeds=1)[1]


@pytest.mark.parametrize(
    ("field", "value", "same"),
    [
        ("steps", 77, True),
        ("device", "cuda", True),
        ("precision", "bf16", True),
        ("evaluate_every_steps", 5, True),
        ("seed", 9, False),
        ("generator_lr", 0.5, False),
        ("dataset", "mnist", False),
        ("n_critic", 3, False),
    ],
)
def test_a_run_fits_if_its_steps_are_the_same(tiny_claim: Claim, field: str, value: object, *, same: bool) -> None:
    config = SETTING.config(SUBJECTS[tiny_claim.subjects[0]], 0)
    changed = replace(config, **{field: value})
    assert (identity(changed) == identity(config)) is same


def test_unreadable_folders_are_reported_and_skipped(tmp_path: Path, quiet: Progress) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    assert find_runs(tmp_path, quiet) == []
    assert "broken" in quiet.console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("content", [b"", b"not weights"])
def test_a_damaged_snapshot_is_an_error_in_one_line(
    own: Path, tiny_claim: Claim, quiet: Progress, content: bytes
) -> None:
    run, config = first_run(own)
    path = run.path / "snapshots" / "step-00000002.safetensors"
    path.write_bytes(content)
    with pytest.raises(RunFolderError, match="step-00000002") as caught:
        load_snapshot(run, config, 2)
    assert "\n" not in str(caught.value)
    _, missing = collect(own, tiny_claim, quiet, train=False, seeds=1)
    assert "not a generator of this run" in missing["tiny-a"]


def test_a_damaged_cache_is_measured_again(
    trained: tuple[Path, Evidence], own: Path, tiny_claim: Claim, quiet: Progress
) -> None:
    for number, path in enumerate(sorted((own / "claims" / "measured").iterdir())):
        path.write_bytes((b"", b"{}", b'{"frechet_distance": "no"}', b"\xff")[number % 4])
    again, _ = collect(own, tiny_claim, quiet, train=False, seeds=1)
    assert again.courses["tiny-a"][0].metrics == trained[1].courses["tiny-a"][0].metrics


def test_snapshots_of_older_versions_are_read(own: Path) -> None:
    run, config = first_run(own)
    wanted = load_snapshot(run, config, 2).state_dict()
    (run.path / "snapshots").rename(run.path / "looks")
    assert kept_steps(run) == set(STEPS.values())
    found = load_snapshot(run, config, 2).state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in wanted.items())


def test_one_seed_that_diverges_does_not_stop_the_others(
    tiny_claim: Claim, tmp_path: Path, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = GanTraining.train_step

    def fails_for_seed_1(self: GanTraining, progress: float) -> object:
        if self._config.seed == 1:
            raise TrainingDivergedError("step 1: a loss is NaN")
        return step(self, progress)

    monkeypatch.setattr(GanTraining, "train_step", fails_for_seed_1)
    evidence, missing = collect(tmp_path, tiny_claim, quiet, seeds=3)
    assert evidence.seeds("tiny-a") == [0, 2]
    assert missing["tiny-a"] == "seed 1 diverged (step 1: a loss is NaN)"


def test_pixels_are_rounded_as_they_are_stored() -> None:
    images = torch.tensor([-3.0, -1.0, 0.0, 0.999, 1.5])
    assert measures.rounded(images).tolist() == [0, 0, 128, 255, 255]
