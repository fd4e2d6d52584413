from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

from exporter.__main__ import main
from ganserve import bundle
from tests.exporter.conftest import Exported
from tests.exporter.fake_runs import make_exported_run, make_translation_run, replace_runs
from tests.exporter.generators import (
    LATENT_DIM,
    BatchMeanTranslator,
    FlatGenerator,
    FloatOnlyGenerator,
    InverseTranslator,
    ResNetTranslator,
    TutorialGenerator,
    randomise,
)

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
    torch.save(InverseTranslator().state_dict(), tmp_path / "inverse.pth")
    return tmp_path


def run_cli(*arguments: str | int | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def own_flags(**changes: str) -> list[str]:
    flags = {"module": "own_generator:OwnGenerator", "weights": "own.pth", "latent-dim": str(LATENT_DIM)}
    flags |= {"name": "own", "module-kwargs": '{"width": 2}'} | {k.replace("_", "-"): v for k, v in changes.items()}
    return [part for flag, value in flags.items() for part in (f"--{flag}", value)]


def translator_flags() -> list[str]:
    flags = ["--module", "tests.exporter.generators:InverseTranslator", "--weights", "inverse.pth", "--name", "own"]
    return [*flags, "--models", "models"]


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


def test_translator_of_the_current_folder_is_exported(own: Path) -> None:
    result = run_cli(*translator_flags(), "--input-image", 3, 8, 12)
    assert result.exit_code == 0, result.output
    assert "own version 1: 12 x 8 images -> 12 x 8 images" in result.stdout
    card = bundle.read_card(own / result.stdout.splitlines()[-1])
    assert card.input == bundle.ImageInput(channels=3, height=8, width=12)


def test_variants_that_are_close_enough_are_added_and_shown(own: Path) -> None:
    result = run_cli(*own_flags(), "--bf16", "--fp16")
    assert result.exit_code == 0, result.output
    folder = own / result.stdout.splitlines()[-1]
    card = bundle.read_card(folder)
    assert list(card.variants) == ["bf16", "fp16"]
    for precision, fidelity in card.variants.items():
        assert fidelity.published
        assert f"{fidelity.psnr_db:.1f}" in result.stdout
        assert bundle.verify_file(folder, card, bundle.VARIANT_FILES[precision]).is_file()
    assert "In bf16: python -m server --models models --precision bf16" in result.stdout.splitlines()
    assert "In fp16: python -m server --models models --precision fp16 --device cuda" in result.stdout.splitlines()


def test_variant_that_is_not_close_enough_is_refused_in_one_line_and_left_out(own: Path) -> None:
    torch.manual_seed(0)
    torch.save(ResNetTranslator().state_dict(), own / "inverse.pth")
    flags = ["--module", "tests.exporter.generators:ResNetTranslator", *translator_flags()[2:], "--bf16"]
    result = run_cli(*flags, "--input-image", 3, 8, 12)
    assert result.exit_code == 0, result.output
    folder = own / result.stdout.splitlines()[-1]
    card = bundle.read_card(folder)
    fidelity = card.variants["bf16"]
    assert not fidelity.published
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "model.onnx", "model.pt"]
    assert set(card.files) == {"model.onnx", "model.pt"}
    (line,) = (line for line in result.stderr.splitlines() if "refuse" in line)
    assert line == (f"  refuse bf16, and go on without model.bf16.pt: {fidelity}; the limits are 99.9% and 50 dB")
    assert "--precision" not in result.stdout


def test_network_that_does_not_run_in_a_reduced_precision_is_exported_without_it(own: Path) -> None:
    torch.save(randomise(FloatOnlyGenerator()).state_dict(), own / "own.pth")
    flags = own_flags(module="tests.exporter.generators:FloatOnlyGenerator", module_kwargs="{}")
    result = run_cli(*flags, "--bf16", "--fp16")
    assert result.exit_code == 0, result.output
    assert "Traceback" not in result.output
    for precision, file_name in bundle.VARIANT_FILES.items():
        (line,) = (line for line in result.stderr.splitlines() if f"refuse {precision}" in line)
        assert f"without {file_name}: the network " in line
    variants = bundle.read_card(own / result.stdout.splitlines()[-1]).variants
    assert [(fidelity.images, fidelity.published) for fidelity in variants.values()] == [(0, False), (0, False)]


def test_run_is_exported_under_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = randomise(FlatGenerator())
    replace_runs(monkeypatch, [make_exported_run(network=network, name="pggan", model="pggan")])
    result = run_cli(tmp_path / "run", "--models", tmp_path / "models", "--version", "4")
    assert result.exit_code == 0, result.output
    folder = Path(result.stdout.splitlines()[-1])
    assert folder == tmp_path / "models" / "pggan" / "4"
    assert bundle.read_card(folder).training["checkpoint"] == "best"


@pytest.mark.parametrize(
    ("checkpoint", "name_flags", "name"),
    [("last", (), "cyclegan"), ("epoch-0012", ("--name", "mine"), "mine")],
)
def test_run_of_two_translators_is_exported_as_two_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: str, name_flags: tuple[str, ...], name: str
) -> None:
    asked = replace_runs(monkeypatch, make_translation_run(nn.Identity(), InverseTranslator()))
    result = run_cli(tmp_path / "run", "--models", tmp_path / "models", "--checkpoint", checkpoint, *name_flags)
    assert result.exit_code == 0, result.output
    assert asked == [(tmp_path / "run", checkpoint)]
    folders = [tmp_path / "models" / f"{name}{suffix}" / "1" for suffix in ("-a2b", "-b2a")]
    assert result.stdout.splitlines()[-3].startswith("Serve them: ")
    assert result.stdout.splitlines()[-2:] == [str(folder) for folder in folders]
    for folder in folders:
        assert f"{folder.parent.name} version 1: 8 x 8 images -> 8 x 8 images" in result.stdout
        assert bundle.read_card(folder).training["checkpoint"] == checkpoint


def test_nothing_of_a_run_is_published_unless_all_of_it_is_proven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_runs(monkeypatch, make_translation_run(nn.Identity(), BatchMeanTranslator()))
    assert "image of a row changes" in assert_one_line(run_cli(tmp_path, "--models", tmp_path / "models"))
    assert list((tmp_path / "models").iterdir()) == []


def test_version_that_one_of_two_models_has_stops_both_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_runs(monkeypatch, make_translation_run(nn.Identity(), nn.Identity()))
    monkeypatch.setattr("exporter.export.check_output", lambda source: pytest.fail("began to work"))
    (tmp_path / "models" / "cyclegan-b2a" / "2").mkdir(parents=True)
    result = run_cli(tmp_path, "--models", tmp_path / "models", "--version", 2)
    assert "cyclegan-b2a/2 exists already" in assert_one_line(result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "give either a run folder or --module", id="nothing"),
        pytest.param(["run", "--module", "a:B"], "give either a run folder or --module", id="both"),
        pytest.param(["no-run"], "no-run: not a run folder", id="no-run"),
        pytest.param(["run", "--weights", "own.pth"], "--weights goes with --module only", id="weights-of-a-run"),
        pytest.param(["run", "--latent-dim", "3"], "--latent-dim goes with --module or", id="latent-dim-of-a-run"),
        pytest.param(["run", "--input-image", *"388"], "--input-image goes with --module or", id="image-of-a-run"),
        pytest.param(["run", "--checkpoint", "newest"], "'newest' is none; write best, last, or", id="no-checkpoint"),
        pytest.param(["run", "--checkpoint", "epoch-../../x"], "write best, last, or epoch-0012", id="path"),
        pytest.param([*own_flags(), "--input-image", *"388"], "--input-image if images, not both", id="both-inputs"),
        pytest.param(translator_flags(), "--module needs --latent-dim (or --input-image) too", id="no-input"),
        pytest.param([*translator_flags(), "--input-image", *"588"], "'--input-image': 5 is not in the", id="channels"),
        pytest.param([*translator_flags(), "--input-image", *"308"], "'--input-image': 0 is not in the", id="height"),
        pytest.param([*translator_flags(), "--input-image", "3", "8"], "'--input-image' requires 3 arg", id="two"),
        pytest.param(
            ["--module", "a:B", "--name", "x"],
            "--module needs --weights and --latent-dim (or --input-image) too",
            id="needs",
        ),
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
    assert "another input or image shape" in assert_one_line(run_cli(*own_flags()))
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
import exporter.export, exporter.module, exporter.source
print(json.dumps([before, "trainer" in sys.modules]))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(result.stdout) == [False, False]
