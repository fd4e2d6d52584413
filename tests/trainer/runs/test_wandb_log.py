"""The data that reaches Weights & Biases, recorded by a fake of its package."""

from __future__ import annotations

import importlib.machinery
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from tests.trainer.conftest import made_up_images, small_config
from trainer.__main__ import main
from trainer.errors import RunFolderError, TrainingDivergedError, UserError
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolder
from trainer.runs.wandb_log import WandbLog, wandb_logs
from trainer.training.loop import train

TINY = ["--model", "dcgan", "--width", "0.1", "--batch-size", "8", "--device", "cpu", "--steps", "2"]


class FakeRun:
    """One run of the fake, which refuses decreasing steps, as the package does."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.alerts: list[tuple[str, str]] = []
        self.exit_codes: list[int] = []

    def log(self, data: dict[str, Any], *, step: int) -> None:
        assert not self.logged or step >= self.logged[-1][0]
        assert not self.exit_codes
        self.logged.append((step, data))

    def alert(self, *, title: str, text: str) -> None:
        self.alerts.append((title, text))

    def finish(self, *, exit_code: int) -> None:
        self.exit_codes.append(exit_code)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[FakeRun]:
    """Installs the fake; the runs that were started."""
    begun: list[FakeRun] = []

    def init(**settings: Any) -> FakeRun:
        begun.append(FakeRun(**settings))
        return begun[-1]

    module = ModuleType("wandb")
    module.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
    module.init = init  # type: ignore[attr-defined]
    module.Image = lambda image: ("image", image.size)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    return begun


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


def run_cli(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.mark.usefixtures("missing")
def test_a_missing_package_is_a_one_line_error_before_a_run_is_created(tmp_path: Path) -> None:
    result = run_cli(*TINY, "--wandb", "faces", "--out", str(tmp_path / "runs"))
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: --wandb faces: the package wandb is not installed;")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("no_figures")
def test_a_run_is_logged_and_resumes_in_the_same_log(runs: list[FakeRun], tmp_path: Path) -> None:
    first = run_cli(*TINY, "--wandb", "faces", "--out", str(tmp_path))
    assert first.exit_code == 0, first.output
    folder = Path(first.stdout.splitlines()[-1])
    assert run_cli("--resume", str(folder), "--steps", "4", "--wandb", "faces").exit_code == 0
    begun, resumed = runs
    for run in runs:
        assert (run.settings["project"], run.settings["name"], run.settings["resume"]) == (
            "faces",
            folder.name,
            "allow",
        )
        assert (run.settings["dir"], run.exit_codes) == (str(folder), [0])
    assert begun.settings["id"] == resumed.settings["id"]
    assert begun.settings["config"]["generator_lr"] == 4e-4
    names = {name for _, data in begun.logged for name in data}
    assert {"loss/d_loss", "loss/g_loss", "score/d_real", "speed/images_per_s", "samples"} <= names
    assert any(name.startswith("evaluation/") for name in names)
    assert max(step for step, _ in begun.logged) == 2
    assert [step for step, data in resumed.logged if "loss/d_loss" in data] == [4]


@pytest.mark.usefixtures("no_figures")
def test_two_runs_have_two_logs(runs: list[FakeRun], tmp_path: Path) -> None:
    for _ in range(2):
        run_cli(*TINY, "--wandb", "faces", "--out", str(tmp_path))
    assert runs[0].settings["id"] != runs[1].settings["id"]


@pytest.mark.usefixtures("no_figures")
def test_without_the_flag_the_package_is_not_used(runs: list[FakeRun], tmp_path: Path) -> None:
    assert run_cli(*TINY, "--out", str(tmp_path)).exit_code == 0
    assert runs == []


def test_paths_are_not_sent(runs: list[FakeRun], tmp_path: Path) -> None:
    config = small_config("dcgan", "dcgan64-k4", dataset="folder:/home/me/secret", data_root="/home/me/data")
    WandbLog("faces", tmp_path, config)
    assert "/home/me" not in str(runs[0].settings["config"])
    assert runs[0].settings["config"]["dataset"] == "folder"


def test_a_warning_is_an_alert(runs: list[FakeRun], tmp_path: Path) -> None:
    log = WandbLog("faces", tmp_path, small_config("dcgan", "dcgan-digits"))
    log.text(7, "warning/samples-alike", "the samples are alike")
    log.image(8, "samples", Image.new("L", (4, 4)))
    assert runs[0].alerts == [("warning/samples-alike", "step 7: the samples are alike")]
    assert runs[0].logged == [(8, {"samples": ("image", (4, 4))})]


@pytest.mark.usefixtures("no_figures")
def test_a_failed_run_is_marked_as_failed(
    runs: list[FakeRun], tmp_path: Path, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TrainingDivergedError("step 4: a weight is NaN")

    monkeypatch.setattr("trainer.training.session.Session._checkpoint", fail)
    config = small_config("dcgan", "dcgan-digits")
    run = RunFolder.create(tmp_path, config)
    with pytest.raises(TrainingDivergedError), wandb_logs("faces", run.path, config) as logs:
        train(config, run, made_up_images(config), quiet, logs=logs)
    assert runs[0].exit_codes == [1]


@pytest.mark.parametrize("refusal", [RuntimeError("api_key not configured\nlog in"), SystemExit(1)])
def test_an_error_of_the_package_is_one_line(
    refusal: BaseException, runs: list[FakeRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise refusal

    monkeypatch.setattr(sys.modules["wandb"], "init", refuse)
    with pytest.raises(UserError, match=r"^--wandb faces: cannot start \(.*\); try WANDB_MODE=offline") as caught:
        WandbLog("faces", tmp_path, small_config("dcgan", "dcgan-digits"))
    assert "\n" not in str(caught.value)
    assert runs == []


@pytest.mark.usefixtures("runs")
def test_an_incomplete_package_is_a_one_line_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ModuleNotFoundError("No module named 'xxhash'")

    monkeypatch.setattr("importlib.import_module", fail)
    with pytest.raises(UserError, match="--wandb faces: cannot start"):
        WandbLog("faces", tmp_path, small_config("dcgan", "dcgan-digits"))


@pytest.mark.parametrize("content", [b"", b"../../x", b"0123456789abcdef0", b"\xff" * 99])
def test_a_damaged_id_is_refused(content: bytes, runs: list[FakeRun], tmp_path: Path) -> None:
    (tmp_path / "wandb-id").write_bytes(content)
    with pytest.raises(RunFolderError, match="wandb-id: not the id of a run; delete it"):
        WandbLog("faces", tmp_path, small_config("dcgan", "dcgan-digits"))
    assert runs == []
