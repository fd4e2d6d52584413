from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from exporter.errors import InputError
from exporter.module import from_module
from exporter.signature import AdaptedNetwork, Signature
from exporter.verify import check_output
from ganserve.bundle import ImageInput, LatentInput
from tests.exporter import generators
from tests.exporter.conftest import IMAGE_INPUT, graph_of
from tests.exporter.gallery.perceptrons import LabelledPerceptron
from tests.exporter.generators import LATENT_DIM, FlatGenerator, ResNetTranslator, TutorialGenerator, randomise

MODULE = "tests.exporter.generators"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "generator.pth"
    torch.save(TutorialGenerator().state_dict(), path)
    return path


def load(weights: Path, spec: str = f"{MODULE}:TutorialGenerator", latent_dim: int = LATENT_DIM, **kwargs: Any) -> Any:
    return from_module(spec, weights, LatentInput(latent_dim=latent_dim), kwargs)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_are_loaded_from_either_format(tmp_path: Path, suffix: str) -> None:
    original = randomise(TutorialGenerator(width=2))
    path = tmp_path / f"generator{suffix}"
    if suffix == ".safetensors":
        save_file(original.state_dict(), path)
    else:
        torch.save(original.state_dict(), path)
    source = load(path, width=2)
    latents = torch.randn(3, LATENT_DIM)
    torch.testing.assert_close(source.network(latents), original(latents[:, :, None, None]))
    assert not source.network.training
    assert (source.kind, source.architecture, source.dataset) == ("", f"{MODULE}:TutorialGenerator", "")
    assert (source.input, source.name) == (LatentInput(latent_dim=LATENT_DIM), "")


def test_flat_latents_are_preferred(tmp_path: Path) -> None:
    path = tmp_path / "flat.pth"
    torch.save(FlatGenerator().state_dict(), path)
    assert isinstance(load(path, f"{MODULE}:FlatGenerator").network, FlatGenerator)


def test_half_precision_weights_run_in_float32(tmp_path: Path) -> None:
    path = tmp_path / "half.pth"
    torch.save(TutorialGenerator().half().state_dict(), path)
    assert load(path).network(torch.zeros(2, LATENT_DIM)).dtype == torch.float32


def test_data_parallel_prefix_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "parallel.pth"
    torch.save({f"module.{key}": value for key, value in TutorialGenerator().state_dict().items()}, path)
    assert load(path).image_shape is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (f"{MODULE}", "write it as package.module:Class"),
        (f"{MODULE}:", "write it as package.module:Class"),
        ("no_such_module:Net", "cannot be imported (ModuleNotFoundError: No module named 'no_such_module')"),
        (f"{MODULE}:Nothing", "has no attribute 'Nothing'"),
        ("not a name:Net", "cannot be imported"),
        (f"{MODULE}:LATENT_DIM", "is a int; name a class"),
        ("pathlib:Path", "returns a PosixPath, not a torch.nn.Module"),
        (f"{MODULE}:BrokenGenerator", "cannot be built (RuntimeError: first line)"),
    ],
)
def test_module_that_cannot_be_used_gives_one_line(weights: Path, spec: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load(weights, spec)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"--module {spec}: ")
    assert "\n" not in str(caught.value)


def test_unknown_argument_names_the_flag(weights: Path) -> None:
    with pytest.raises(
        InputError, match=r"unexpected keyword argument 'depth'\); give its arguments in --module-kwargs"
    ):
        load(weights, depth=3)


def test_other_sizes_name_the_first_key_and_both_shapes(weights: Path) -> None:
    with pytest.raises(
        InputError, match=r"main\.0\.weight has shape \(6, 4, 4, 4\), but the module's has \(6, 8, 4, 4\)"
    ):
        load(weights, width=8)


def test_missing_and_unknown_keys_are_named(tmp_path: Path) -> None:
    state = TutorialGenerator().state_dict()
    del state["main.3.weight"]
    state |= {f"extra.{index}": torch.zeros(1) for index in range(5)}
    path = tmp_path / "odd.pth"
    torch.save(state, path)
    with pytest.raises(
        InputError, match=r"lacks main\.3\.weight, has unknown extra\.0, extra\.1, extra\.2 and 2 more$"
    ):
        load(path)


class Attack:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_code_in_a_weights_file_is_not_run(tmp_path: Path, save: Any) -> None:
    path, touched = tmp_path / "attack.pth", tmp_path / "touched"
    save({"main.0.weight": Attack(touched)}, path)
    with pytest.raises(InputError, match=r"loading it runs the code .*; if you trust its author, add --allow-pickle"):
        load(path)
    assert not touched.exists()


@pytest.mark.parametrize("name", ["junk.pth", "junk.safetensors", "empty.pth", "empty.safetensors"])
def test_junk_weights_give_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"" if name.startswith("empty") else bytes(range(256)) * 40)
    with pytest.raises(InputError, match=r"neither safetensors, TorchScript nor a file of torch\.save") as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"opt": {"lr": 0.1}, "epoch": 3}, "holds a dict with epoch, opt, and no state dict; write it with"),
        (["a"], "holds a list, and no state dict; write it with"),
    ],
)
def test_other_contents_are_named(tmp_path: Path, value: object, message: str) -> None:
    path = tmp_path / "other.pth"
    torch.save(value, path)
    with pytest.raises(InputError, match=message):
        load(path)


def test_value_range_can_be_set(tmp_path: Path) -> None:
    path = tmp_path / "byte.pth"
    torch.save(generators.ByteRangeGenerator().state_dict(), path)
    source = from_module(f"{MODULE}:ByteRangeGenerator", path, LatentInput(latent_dim=LATENT_DIM), {}, (0.0, 255.0))
    assert check_output(source, graph_of(source)) == (1, 4, 4)
    assert (source.value_min, source.value_max) == (0.0, 255.0)


@pytest.fixture
def translator_weights(tmp_path: Path) -> Path:
    path = tmp_path / "translator.safetensors"
    save_file(ResNetTranslator().state_dict(), path)
    return path


def load_translator(weights: Path, image_input: ImageInput = IMAGE_INPUT, name: str = "ResNetTranslator") -> Any:
    return from_module(f"{MODULE}:{name}", weights, image_input, {})


def test_translator_is_loaded_for_images_of_one_size(translator_weights: Path) -> None:
    source = load_translator(translator_weights)
    assert isinstance(source.network, ResNetTranslator)
    assert not source.network.training
    assert (source.input, source.name, source.suffix, source.kind) == (IMAGE_INPUT, "", "", "")
    assert check_output(source, graph_of(source)) == (3, 8, 12)


def test_translator_sees_its_own_value_range(tmp_path: Path) -> None:
    path = tmp_path / "inverse.pth"
    torch.save({"total": torch.tensor(255.0)}, path)
    source = from_module(f"{MODULE}:InverseTranslator", path, IMAGE_INPUT, {}, (0.0, 255.0))
    assert check_output(source, graph_of(source)) == (3, 8, 12)


def test_a_signature_reaches_the_network_and_the_card(tmp_path: Path) -> None:
    path = tmp_path / "label.pth"
    torch.save(LabelledPerceptron().state_dict(), path)
    signature = Signature(forward_kwargs={"labels": [3]})
    spec = f"{LabelledPerceptron.__module__}:LabelledPerceptron"
    source = from_module(spec, path, LatentInput(latent_dim=20), {}, signature=signature)
    assert isinstance(source.network, AdaptedNetwork)
    assert source.training == {"forward_kwargs": '{"labels": [3]}'}
