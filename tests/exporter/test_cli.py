from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from exporter import bundle
from exporter.__main__ import main
from tests.exporter.conftest import Exported
from tests.exporter.generators import LATENT_DIM, FlatGenerator, TutorialGenerator, randomise
from tests.exporter.test_source import FakeRun

OWN_MODULE = """
from tests.exporter.generators import TutorialGenerator

class OwnGenerator(TutorialGenerator):
    pass
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder: a module beside a file of weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_generator", raising=False)
    (tmp_path / "own_generator.py").write_text(OWN_MODULE)
    torch.save(randomise(TutorialGenerator(width=2)).state_dict(), tmp_path / "own.pth")
    return tmp_path


def run_cli(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def own_flags(**changes: str) -> list[str]:
    flags = {"module": "own_generator:OwnGenerator", "weights": "own.pth", "latent-dim": str(LATENT_DIM)}
    flags |= {"name": "own", "module-kwargs": '{"width": 2}'} | {k.replace("_", "-"): v for k, v in changes.items()}
    return [part for flag, value in flags.items() for part in (f"--{flag}", value)]


def assert_one_line(result: Result, exit_code: int = 2) -> str:
    assert result.exit_code == exit_code, result.output
    assert "Traceback" not in result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert result.stderr.splitlines()[-1] == errors[0]
    assert result.stdout == ""
    return errors[0]


def test_module_of_the_current_folder_is_exported(own: Path) -> None:
    result = run_cli(*own_flags())
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[-1] == "models/own/1"
    assert "python -m server --models models" in lines[-2]
    assert "model.onnx" in result.stdout
    card = bundle.read_card(own / "models" / "own" / "1")
    assert (card.kind, card.architecture) == ("", "own_generator:OwnGenerator")
    for figure in card.parity:
        assert f"{figure.onnx_images:.1e}" in result.stdout
    again = run_cli(*own_flags())
    assert again.stdout.splitlines()[-1] == "models/own/2"
    assert bundle.list_versions(own / "models", "own") == [1, 2]


def test_run_is_exported_under_its_models_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = FakeRun(generator=randomise(FlatGenerator()))
    monkeypatch.setattr("trainer.checkpoint.load_generator", lambda path, which: run)
    result = run_cli(tmp_path / "run", "--models", tmp_path / "models", "--version", "4")
    assert result.exit_code == 0, result.output
    folder = Path(result.stdout.splitlines()[-1])
    assert folder == tmp_path / "models" / "dcgan" / "4"
    assert bundle.read_card(folder).training["checkpoint"] == "best"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "give either a run folder or --module", id="nothing"),
        pytest.param(["run", "--module", "a:B"], "give either a run folder or --module", id="both"),
        pytest.param(["no-run"], "no-run: not a run folder", id="no-run"),
        pytest.param(["run", "--weights", "own.pth"], "--weights goes with --module only", id="weights-of-a-run"),
        pytest.param(["run", "--latent-dim", "3"], "--latent-dim goes with --module only", id="latent-dim-of-a-run"),
        pytest.param(["--module", "a:B", "--name", "x"], "--module needs --weights and --latent-dim too", id="needs"),
        pytest.param(
            [*own_flags(), "--checkpoint", "best"], "--checkpoint goes with a run folder only", id="checkpoint"
        ),
        pytest.param([*own_flags(), "--version", "0"], "'--version': 0 is not in the range", id="version"),
        pytest.param([*own_flags(), "--value-range", "1", "1"], "--value-range 1 1: the first must be", id="range"),
        pytest.param([*own_flags(), "--value-range", "0", "nan"], "--value-range 0 nan: the first must be", id="nan"),
        pytest.param(own_flags(name="../up"), "model name '../up'", id="name"),
        pytest.param(own_flags(module_kwargs="{"), "'{' is not JSON", id="not-json"),
        pytest.param(own_flags(module_kwargs="[2]"), "'[2]' is not a JSON object", id="not-an-object"),
        pytest.param(own_flags(module_kwargs='{"width": 3}'), "main.0.weight has shape", id="width"),
        pytest.param(own_flags(module="own_generator:Gone"), "has no attribute 'Gone'", id="class"),
        pytest.param(own_flags(weights="own_generator.py"), "--weights own_generator.py: neither", id="weights"),
        pytest.param(own_flags(latent_dim="0"), "'--latent-dim': 0 is not in the range", id="latent-dim"),
        pytest.param(own_flags(models="own.pth"), "cannot write to the model repository own.pth", id="models"),
    ],
)
def test_mistake_gives_one_line_and_exit_code_2(own: Path, arguments: list[str], message: str) -> None:
    assert message in assert_one_line(run_cli(*arguments))
    assert not (own / "models").exists()


def test_version_that_exists_gives_one_line(own: Path, exported: Exported) -> None:
    flags = own_flags(models=str(exported.repository), name="tiny", version="1")
    assert "exists already" in assert_one_line(run_cli(*flags))


def test_name_that_has_other_shapes_gives_one_line(own: Path) -> None:
    other = own / "models" / "own"
    (other / "1").mkdir(parents=True)
    (other / bundle.TRITON_CONFIG_FILE).write_text('name: "own"')
    assert "another latent size or image shape" in assert_one_line(run_cli(*own_flags()))
    assert bundle.list_versions(own / "models", "own") == [1]


def test_missing_parity_exits_with_1(own: Path) -> None:
    flags = own_flags(module="tests.exporter.generators:FixedBatchGenerator", module_kwargs="{}", weights="flat.pth")
    torch.save(FlatGenerator().state_dict(), own / "flat.pth")
    assert "model.pt at 1 rows" in assert_one_line(run_cli(*flags), exit_code=1)
    assert list((own / "models").iterdir()) == []


def test_full_disk_gives_one_line(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device", "model.pt")

    monkeypatch.setattr("exporter.export.write_torchscript", fail)
    assert "model.pt: No space left on device" in assert_one_line(run_cli(*own_flags()), exit_code=1)


def test_flags_are_read_without_torch_and_modules_without_the_trainer() -> None:
    code = """
import json, sys
import exporter.__main__
before = "torch" in sys.modules
import exporter.export, exporter.source
print(json.dumps([before, "trainer" in sys.modules]))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(result.stdout) == [False, False]
