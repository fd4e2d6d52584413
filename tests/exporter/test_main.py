from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

from exporter.__main__ import main
from exporter.errors import ParityError
from ganserve import bundle
from ganserve.latents import DISTRIBUTIONS
from tests.exporter.fake_runs import make_exported_run, make_translation_run, replace_runs
from tests.exporter.gallery.perceptrons import LabelledPerceptron
from tests.exporter.generators import (
    LATENT_DIM,
    BatchMeanTranslator,
    ByteRangeGenerator,
    FlatGenerator,
    FloatOnlyGenerator,
    InverseTranslator,
    TutorialGenerator,
    randomise,
)
from tests.server.tiny_bundles import publish_tiny_bundle

OWN_MODULE = """
from tests.exporter.generators import TutorialGenerator

class OwnGenerator(TutorialGenerator):
    pass
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder: a module and a file of weights."""
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


def test_module_of_the_current_folder_is_exported_with_its_variants(own: Path) -> None:
    result = run_cli(*own_flags(), "--bf16", "--fp16")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[-1] == "models/own/1"
    assert lines[-2] == "Serve: python -m server --models models"
    assert "Serve in bf16: python -m server --models models --precision bf16" in lines
    assert "Serve in fp16: python -m server --models models --precision fp16 --device cuda" in lines
    assert "own version 1: latents of size 6 -> 8x8 images" in lines
    folder = own / "models" / "own" / "1"
    card = bundle.read_card(folder)
    assert (card.kind, card.architecture) == ("", "own_generator:OwnGenerator")
    for parity in card.parity:
        assert f"{parity.onnx_images:.1e}" in result.stdout
    assert list(card.variants) == ["bf16", "fp16"]
    for precision, fidelity in card.variants.items():
        assert fidelity.published
        assert f"{fidelity.psnr_db:.1f}" in result.stdout
        bundle.read_verified_file(folder, card, bundle.VARIANT_FILES[precision])  # raises if it changed


@pytest.mark.usefixtures("without_onnx")
@pytest.mark.parametrize("prior", [*DISTRIBUTIONS, None])
def test_the_prior_of_the_latents_is_written_to_the_card(prior: str | None, own: Path) -> None:
    result = run_cli(*(own_flags(latent_prior=prior) if prior else own_flags()))
    assert result.exit_code == 0, result.output
    card = bundle.read_card(own / result.stdout.splitlines()[-1])
    assert card.input == bundle.LatentInput(latent_dim=LATENT_DIM, distribution=prior or "normal")  # type: ignore[arg-type]


def test_images_have_no_prior(own: Path) -> None:
    result = run_cli(*translator_flags(), "--input-image", 3, 8, 12, "--latent-prior", "uniform")
    assert assert_one_line(result) == "Error: --latent-prior is valid only with --latent-dim"


@pytest.mark.usefixtures("without_onnx")
def test_the_range_of_the_images_is_printed_and_doubted(own: Path) -> None:
    torch.save(ByteRangeGenerator().state_dict(), own / "own.pth")
    flags = own_flags(module="tests.exporter.generators:ByteRangeGenerator", module_kwargs="{}")
    result = run_cli(*flags, "--value-range", "-255", "255")
    assert result.exit_code == 0, result.output
    said = [line for line in result.stderr.splitlines() if "rows have values" in line or "warning" in line]
    assert len(said) == 2
    assert said[0].endswith("pixels 0 and 255 stand for -255 and 255")
    assert said[1].endswith(
        "so all pixels are in 128 .. 255; if that is the range of its images, add --value-range 0 255"
    )
    result = run_cli(*flags, "--value-range", "0", "255")
    assert "warning" not in result.stderr


@pytest.mark.usefixtures("without_onnx")
def test_translator_of_the_current_folder_is_exported(own: Path) -> None:
    result = run_cli(*translator_flags(), "--input-image", 3, 8, 12)
    assert result.exit_code == 0, result.output
    assert "own version 1: 12x8 images -> 12x8 images" in result.stdout
    card = bundle.read_card(own / result.stdout.splitlines()[-1])
    assert card.input == bundle.ImageInput(channels=3, height=8, width=12)


@pytest.mark.usefixtures("without_onnx")
def test_flags_adapt_a_network_with_another_signature(own: Path) -> None:
    torch.save(LabelledPerceptron().state_dict(), own / "own.pth")
    module = "tests.exporter.gallery.perceptrons:LabelledPerceptron"
    flags = own_flags(module=module, module_kwargs="{}", latent_dim="20", forward_kwargs='{"labels": [3]}')
    result = run_cli(*flags, "--bf16", "--fp16")
    assert result.exit_code == 0, result.output
    card = bundle.read_card(own / result.stdout.splitlines()[-1])
    assert card.training == {"forward_kwargs": '{"labels": [3]}'}
    assert card.variants["bf16"].images  # it runs in this precision; whether it is close enough is another question


@pytest.mark.usefixtures("without_onnx")
def test_license_and_intended_use_are_written_to_the_card(own: Path) -> None:
    result = run_cli(*own_flags(license="CC-BY-4.0", intended_use="Teaching; not for portraits."))
    assert result.exit_code == 0, result.output
    card = bundle.read_card(own / result.stdout.splitlines()[-1])
    assert (card.license, card.intended_use) == ("CC-BY-4.0", "Teaching; not for portraits.")
    assert "  sample.png  16 images" in result.stdout.splitlines()


@pytest.mark.usefixtures("without_onnx")
def test_variant_that_is_not_close_enough_is_skipped_in_one_line(own: Path) -> None:
    torch.save(randomise(FloatOnlyGenerator()).state_dict(), own / "own.pth")
    flags = own_flags(module="tests.exporter.generators:FloatOnlyGenerator", module_kwargs="{}")
    result = run_cli(*flags, "--bf16")
    assert result.exit_code == 0, result.output
    assert "Traceback" not in result.output
    folder = own / result.stdout.splitlines()[-1]
    card = bundle.read_card(folder)
    assert not card.variants["bf16"].published
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "model.onnx", "model.pt", "sample.png"]
    assert set(card.files) == {"model.onnx", "model.pt"}
    (line,) = (line for line in result.stderr.splitlines() if "skip" in line)
    assert line.startswith("  skip bf16, model.bf16.pt is not published: the network does not run in bfloat16 (")
    assert "--precision" not in result.stdout


@pytest.mark.usefixtures("without_onnx")
def test_run_is_exported_under_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = randomise(FlatGenerator())
    replace_runs(monkeypatch, [make_exported_run(network=network, name="pggan", model="pggan")])
    result = run_cli(tmp_path / "run", "--models", tmp_path / "models", "--version", "4")
    assert result.exit_code == 0, result.output
    folder = Path(result.stdout.splitlines()[-1])
    assert folder == tmp_path / "models" / "pggan" / "4"
    assert bundle.read_card(folder).training["checkpoint"] == "best"


@pytest.mark.usefixtures("without_onnx")
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
    assert result.stdout.splitlines()[-3].startswith("Serve: ")
    assert result.stdout.splitlines()[-2:] == [str(folder) for folder in folders]
    for folder in folders:
        assert f"{folder.parent.name} version 1: 8x8 images -> 8x8 images" in result.stdout
        assert bundle.read_card(folder).training["checkpoint"] == checkpoint


@pytest.mark.usefixtures("without_onnx")
def test_a_run_is_published_only_if_all_its_networks_match(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_runs(monkeypatch, make_translation_run(nn.Identity(), BatchMeanTranslator()))
    assert "image of a row depends" in assert_one_line(run_cli(tmp_path, "--models", tmp_path / "models"))
    assert not (tmp_path / "models").exists()


def test_version_that_one_of_two_models_has_stops_both_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_runs(monkeypatch, make_translation_run(nn.Identity(), nn.Identity()))
    monkeypatch.setattr("exporter.export.check_output", lambda *_: pytest.fail("began to work"))
    (tmp_path / "models" / "cyclegan-b2a" / "2").mkdir(parents=True)
    result = run_cli(tmp_path, "--models", tmp_path / "models", "--version", 2)
    assert "cyclegan-b2a/2 already exists" in assert_one_line(result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "give exactly one of a run folder, --module", id="nothing"),
        pytest.param(["run", "--module", "a:B"], "give exactly one of a run folder, --module", id="both"),
        pytest.param(["no-run"], "no-run: not a run folder", id="no-run"),
        pytest.param(["."], ".: not a run folder (it has no config.json)", id="other-folder"),
        pytest.param(["run", "--weights", "own.pth"], "--weights is valid only with --module", id="weights-of-a-run"),
        pytest.param(
            ["run", "--latent-dim", "3"], "--latent-dim is valid only with --module", id="latent-dim-of-a-run"
        ),
        pytest.param(
            ["run", "--input-image", *"388"], "--input-image is valid only with --module", id="image-of-a-run"
        ),
        pytest.param([*own_flags(), "--input-image", *"388"], "--input-image if images, not both", id="both-inputs"),
        pytest.param(translator_flags(), "--module also needs --latent-dim (or --input-image)", id="no-input"),
        pytest.param([*translator_flags(), "--input-image", *"588"], "'--input-image': 5 is not in the", id="channels"),
        pytest.param([*translator_flags(), "--input-image", *"308"], "'--input-image': 0 is not in the", id="height"),
        pytest.param([*translator_flags(), "--input-image", "3", "8"], "'--input-image' requires 3 arg", id="two"),
        pytest.param(
            ["--module", "a:B", "--name", "x"],
            "--module also needs --weights and --latent-dim (or --input-image)",
            id="needs",
        ),
        pytest.param(
            [*own_flags(), "--checkpoint", "best"], "--checkpoint is valid only with a run folder", id="checkpoint"
        ),
        pytest.param([*own_flags(), "--version", "0"], "'--version': 0 is not in the range", id="version"),
        pytest.param([*own_flags(), "--value-range", "1", "1"], "--value-range 1 1: the first must be", id="range"),
        pytest.param(
            [*own_flags(), "--value-range", "0", "inf"], "'--value-range': inf is not a finite number", id="inf"
        ),
        pytest.param(
            [*own_flags(), "--value-range", "0", "nan"], "'--value-range': nan is not a finite number", id="nan"
        ),
        pytest.param(own_flags(license=""), "--license: give 1 to 500 printable characters", id="license"),
        pytest.param(own_flags(intended_use="a\nb"), "--intended-use: give 1 to 500 printable", id="intended-use"),
        pytest.param(own_flags(name="../up"), "model name '../up'", id="name"),
        pytest.param(own_flags(module_kwargs="{"), "'{' is not JSON", id="not-json"),
        pytest.param(own_flags(module_kwargs="[2]"), "'[2]' is not a JSON object", id="not-an-object"),
        pytest.param(own_flags(forward_kwargs="{"), "--forward-kwargs '{' is not JSON", id="forward-not-json"),
        pytest.param(
            own_flags(forward_kwargs='{"step": 3}'), "forward(latents) has no argument step", id="forward-argument"
        ),
        pytest.param(own_flags(output_item="rgb"), "--output-item rgb: forward returns a tensor of", id="item"),
        pytest.param([*own_flags(), "--output-image", *"388", "--output-item", "-1"], "--output-item -1", id="item-1"),
        pytest.param([*own_flags(), "--output-image", *"377"], "--output-image 3 7 7 has 147 values", id="image"),
        pytest.param(["run", "--output-item", "0"], "--output-item is valid only with --module", id="item-of-a-run"),
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


def test_version_that_exists_gives_one_line(own: Path) -> None:
    (own / "models" / "own" / "1").mkdir(parents=True)
    assert "already exists" in assert_one_line(run_cli(*own_flags(version="1")))


def test_name_that_has_other_shapes_gives_one_line_before_any_work(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_tiny_bundle(own / "models", name="own", latent_dim=LATENT_DIM, shape=(3, 16, 16))
    monkeypatch.setattr("exporter.export.write_torchscript", lambda *_: pytest.fail("began to work"))
    assert assert_one_line(run_cli(*own_flags())) == (
        "Error: models/own/1: turns latents of size 6 into images of 16x16x3, and this network turns latents of size 6"
        " into images of 8x8x3; give it another --name"
    )
    assert bundle.list_versions(own / "models", "own") == [1]


def test_edited_triton_config_gives_one_line_before_any_work(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_tiny_bundle(own / "models", name="own", latent_dim=LATENT_DIM, shape=(3, 8, 8))
    (own / "models" / "own" / bundle.TRITON_CONFIG_FILE).write_text('name: "own"')
    monkeypatch.setattr("exporter.export.write_torchscript", lambda *_: pytest.fail("began to work"))
    line = assert_one_line(run_cli(*own_flags()))
    assert "config.pbtxt: its first lines are not those that this export writes" in line


def test_file_that_does_not_match_exits_with_1(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise ParityError("model.pt at 1 row differs")

    monkeypatch.setattr("exporter.export.prove_parity", fail)
    monkeypatch.setattr("exporter.export.write_onnx", lambda *_, **settings: settings.get("from_trace", True))
    assert "model.pt at 1 row differs" in assert_one_line(run_cli(*own_flags()), exit_code=1)
    assert list((own / "models").iterdir()) == []


def test_full_disk_gives_one_line(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device", "model.pt")

    monkeypatch.setattr("exporter.export.write_torchscript", fail)
    assert "model.pt: No space left on device" in assert_one_line(run_cli(*own_flags()), exit_code=1)


_NO_WEIGHTS = ["--module", "a:B", "--weights", "none.pth", "--latent-dim", "3", "--name", "x"]


def test_help_invalid_flags_and_missing_files_do_not_import_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from exporter.__main__ import main; main()"
    refused = (["run", "--latent-dim", "3"], ["no-run"], ["docs"], _NO_WEIGHTS)
    for flags, exit_code in ((["--help"], 0), *((flags, 2) for flags in refused)):
        command = [sys.executable, "-c", code, *flags]
        result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=200)
        assert result.returncode == exit_code, result.stderr
        assert "Traceback" not in result.stderr
