from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from exporter.errors import InputError
from exporter.graph import SpatialLatents
from exporter.output_check import check_output
from exporter.source import from_module, from_run
from tests.exporter import generators
from tests.exporter.conftest import make_source
from tests.exporter.generators import LATENT_DIM, FlatGenerator, TutorialGenerator, randomise

MODULE = "tests.exporter.generators"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "generator.pth"
    torch.save(TutorialGenerator().state_dict(), path)
    return path


def load(weights: Path, spec: str = f"{MODULE}:TutorialGenerator", latent_dim: int = LATENT_DIM, **kwargs: Any) -> Any:
    return from_module(spec, weights, latent_dim, kwargs)


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
    torch.testing.assert_close(source.generator(latents), original(latents[:, :, None, None]))
    assert not source.generator.training
    assert (source.kind, source.architecture, source.dataset) == ("", f"{MODULE}:TutorialGenerator", "")


def test_flat_latents_are_preferred(tmp_path: Path) -> None:
    path = tmp_path / "flat.pth"
    torch.save(FlatGenerator().state_dict(), path)
    assert isinstance(load(path, f"{MODULE}:FlatGenerator").generator, FlatGenerator)


def test_half_precision_weights_run_in_float32(tmp_path: Path) -> None:
    path = tmp_path / "half.pth"
    torch.save(TutorialGenerator().half().state_dict(), path)
    assert load(path).generator(torch.zeros(2, LATENT_DIM)).dtype == torch.float32


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
        ("pathlib:Path", "gives a PosixPath, not a torch.nn.Module"),
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
    with pytest.raises(InputError, match="neither safetensors nor a state dict that loads without running code"):
        load(path)
    assert not touched.exists()


@pytest.mark.parametrize("name", ["junk.pth", "junk.safetensors", "empty.pth", "empty.safetensors"])
def test_junk_weights_give_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"" if name.startswith("empty") else bytes(range(256)) * 40)
    with pytest.raises(InputError, match=r"neither safetensors nor a state dict") as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"state_dict": {"a": torch.zeros(1)}, "epoch": 3}, "holds a dict with epoch, state_dict, not a state dict"),
        ([torch.zeros(1)], "holds a list, not a state dict"),
    ],
)
def test_other_contents_are_named(tmp_path: Path, value: object, message: str) -> None:
    path = tmp_path / "other.pth"
    torch.save(value, path)
    with pytest.raises(InputError, match=message):
        load(path)


def test_weights_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^--weights .*nothing\.pth: no such file$"):
        load(tmp_path / "nothing.pth")


def test_wrong_latent_size_tells_what_both_conventions_gave(weights: Path) -> None:
    with pytest.raises(InputError, match=r"\(N, 5\) gives .*\(N, 5, 1, 1\) gives .*is --latent-dim right\?$") as caught:
        load(weights, latent_dim=5)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("generator", "message"),
    [
        pytest.param(generators.NoisyGenerator(), "is there noise or dropout in forward", id="noise"),
        pytest.param(generators.BatchStatisticsGenerator(), "BatchNorm without running statistics", id="statistics"),
        pytest.param(generators.NanGenerator(), "gives NaN or infinity", id="nan"),
        pytest.param(generators.HalfPrecisionGenerator(), r"gives torch.float16 \(8, 1, 4, 4\)", id="half"),
        pytest.param(SpatialLatents(generators.FiveChannelGenerator()), "images of 5 channels", id="channels"),
        pytest.param(
            generators.ByteRangeGenerator(), r"not about -1 \.\. 1; give its range with --value-range", id="range"
        ),
        pytest.param(nn.Identity(), r"gives torch.float32 \(8, 6\), not float32 images", id="no-image"),
    ],
)
def test_output_that_cannot_be_served_is_refused(generator: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_output(make_source(randomise(generator)))


def test_generator_without_tanh_may_overshoot() -> None:
    class Overshooting(FlatGenerator):
        def forward(self, latents: torch.Tensor) -> torch.Tensor:
            return 1.8 * super().forward(latents)

    assert check_output(make_source(randomise(Overshooting()))) == (1, 4, 4)


def test_other_value_range_is_taken_when_said(tmp_path: Path) -> None:
    path = tmp_path / "byte.pth"
    torch.save(generators.ByteRangeGenerator().state_dict(), path)
    source = from_module(f"{MODULE}:ByteRangeGenerator", path, LATENT_DIM, {}, (0.0, 255.0))
    assert check_output(source) == (1, 4, 4)
    assert (source.value_min, source.value_max) == (0.0, 255.0)


@dataclass
class FakeRun:
    """What trainer.checkpoint.load_generator returns."""

    generator: nn.Module = field(default_factory=FlatGenerator)
    model: str = "dcgan"
    preset: str = "dcgan-digits"
    architecture: str = "dcgan"
    dataset: str = "digits"
    latent_dim: int = LATENT_DIM
    channels: int = 1
    image_size: int = 4
    training: dict[str, float | int | str | None] = field(default_factory=lambda: {"step": 7})


def test_run_becomes_a_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def load_generator(run: Path, which: str) -> FakeRun:
        asked.append((run, which))
        return FakeRun()

    monkeypatch.setattr("trainer.checkpoint.load_generator", load_generator)
    source = from_run(tmp_path, "last")
    assert asked == [(tmp_path, "last")]
    assert (source.kind, source.architecture, source.dataset) == ("dcgan", "dcgan", "digits")
    assert source.training == {"preset": "dcgan-digits", "checkpoint": "last", "step": 7}
    assert check_output(source) == (1, 4, 4)


def test_run_whose_images_are_not_its_configs_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("trainer.checkpoint.load_generator", lambda run, which: FakeRun(image_size=8))
    with pytest.raises(InputError, match=r"gives images \(1, 4, 4\), but its run \(1, 8, 8\)"):
        check_output(from_run(tmp_path, "best"))


def test_folder_that_is_no_run_gives_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run folder") as caught:
        from_run(tmp_path, "best")
    assert "\n" not in str(caught.value)
