from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

from exporter.__main__ import main
from exporter.errors import InputError
from exporter.pickled_module import from_pickle
from exporter.signature import Signature
from exporter.source import Source
from ganserve import bundle
from ganserve.bundle import LatentInput
from tests.exporter.conftest import IMAGE_INPUT
from tests.exporter.generators import LATENT_DIM, FlatGenerator, ResNetTranslator, TutorialGenerator, randomise

LATENTS = LatentInput(latent_dim=LATENT_DIM)


class Attack:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def load(path: Path, **options: Any) -> Source:
    return from_pickle(path, LATENTS, (-1.0, 1.0), **({"warn": lambda line: None} | options))


def run_cli(path: Path, *flags: str) -> Result:
    models = str(path.parent / "models")
    return CliRunner().invoke(main, ["--pickle", str(path), "--name", "mine", "--models", models, *flags])


@pytest.fixture
def generator(tmp_path: Path) -> Path:
    path = tmp_path / "generator.pkl"
    torch.save(randomise(TutorialGenerator()), path)
    return path


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_code_in_a_file_does_not_run_without_the_flag(tmp_path: Path, save: Any) -> None:
    path, touched = tmp_path / "generator.pkl", tmp_path / "touched"
    save(Attack(touched), path)
    result = run_cli(path, "--latent-dim", "6")
    assert result.exit_code == 2
    (line,) = (line for line in result.stderr.splitlines() if line)
    assert "runs the code inside it" in line
    assert "add --allow-pickle" in line
    assert not touched.exists()
    assert run_cli(path, "--latent-dim", "6", "--allow-pickle").exit_code == 2  # the code in the file has run
    assert touched.exists()


def test_the_refusal_comes_before_any_missing_flag(generator: Path) -> None:
    assert "add --allow-pickle" in CliRunner().invoke(main, ["--pickle", str(generator)]).stderr


@pytest.mark.usefixtures("without_onnx")
def test_with_the_flag_the_module_is_exported_after_a_warning(generator: Path) -> None:
    result = run_cli(generator, "--latent-dim", str(LATENT_DIM), "--allow-pickle")
    assert result.exit_code == 0, result.output
    assert f"warning: loading {generator} runs the code inside it" in result.stderr.splitlines()
    card = bundle.read_card(Path(result.stdout.splitlines()[-1]))
    assert (card.kind, card.architecture) == ("", "tests.exporter.generators:TutorialGenerator")


def test_the_warning_comes_before_the_file_is_opened(tmp_path: Path) -> None:
    path, touched = tmp_path / "generator.pkl", tmp_path / "touched"
    torch.save(Attack(touched), path)
    seen: list[bool] = []
    with pytest.raises(InputError):
        load(path, warn=lambda line: seen.append(touched.exists()))
    assert seen == [False]


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_network_is_the_one_that_was_saved(wrapped: bool, tmp_path: Path) -> None:
    path = tmp_path / "generator.pkl"
    original = randomise(FlatGenerator())
    torch.save(nn.DataParallel(original.train()) if wrapped else original.train(), path)
    source = load(path)
    latents = torch.randn(3, LATENT_DIM)
    with torch.no_grad():
        assert torch.equal(source.network(latents), original.eval()(latents))
    assert not source.network.training
    assert source.architecture == "tests.exporter.generators:FlatGenerator"


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_module_in_a_dict_is_found_by_its_key_or_as_the_running_average(save: Any, tmp_path: Path) -> None:
    path = tmp_path / "networks.pkl"
    content = {"G": randomise(FlatGenerator()), "D": nn.Linear(2, 2), "G_ema": randomise(FlatGenerator()), "kimg": 3}
    save(content, path)
    notes: list[str] = []
    latents = torch.randn(3, LATENT_DIM)
    for key, expected in ((None, "G_ema"), ("G", "G")):
        source = from_pickle(path, LATENTS, (-1.0, 1.0), notes.append, weights_key=key)
        assert torch.equal(source.network(latents), content[expected].eval()(latents))  # type: ignore[attr-defined]
    assert f"--pickle {path}: took G_ema, the running average; --weights-key takes another: G, D" in notes
    with pytest.raises(InputError, match=r"--weights-key netG is no module in it; it holds G, D, G_ema$"):
        from_pickle(path, LATENTS, (-1.0, 1.0), notes.append, weights_key="netG")


def test_the_wrapper_of_torch_compile_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "generator.pkl"
    torch.save(torch.compile(FlatGenerator()), path)
    assert isinstance(load(path).network, FlatGenerator)


def test_a_translator_is_taken_too(tmp_path: Path) -> None:
    path = tmp_path / "translator.pkl"
    torch.save(ResNetTranslator(), path)
    source = from_pickle(path, IMAGE_INPUT, (-1.0, 1.0), lambda line: None)
    assert source.input == IMAGE_INPUT


def test_a_signature_adapts_the_module(tmp_path: Path) -> None:
    path = tmp_path / "flat.pkl"
    torch.save(nn.Linear(LATENT_DIM, 4), path)
    source = load(path, signature=Signature(output_image=(1, 2, 2)))
    assert source.network(torch.zeros(3, LATENT_DIM)).shape == (3, 1, 2, 2)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("text", "holds a str, not a torch.nn.Module"),
        ([1, 2], "holds a list, not a torch.nn.Module"),
        (
            {"main.0.weight": torch.zeros(1)},
            "holds weights, and no module; give it with --weights, and its class with --module$",
        ),
        (nn.Linear(LATENT_DIM, 4), "give the shape of an image with --output-image C H W, such as 1 2 2"),
    ],
)
def test_a_pickle_without_a_generator_is_refused_in_one_line(value: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "other.pkl"
    torch.save(value, path)
    with pytest.raises(InputError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"junk" * 99])
def test_junk_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "junk.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"^--pickle .*: cannot be read \(.*write it with torch\.save") as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("where", ["gone_nets", "__main__"])
def test_a_class_that_cannot_be_imported_is_named(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(FlatGenerator):
        pass

    path = tmp_path / "generator.pkl"
    module = type(sys)(where)
    Gone.__module__, Gone.__qualname__ = where, "Gone"
    module.Gone = Gone  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, where, module)
        torch.save(Gone(), path)
    with pytest.raises(InputError, match=r"its class cannot be imported \(.*(Gone|gone_nets).*\); run from") as caught:
        load(path)
    assert "\n" not in str(caught.value)
