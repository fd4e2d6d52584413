"""Runs the commands of docs/importing.md."""

from __future__ import annotations

import importlib
import io
import re
import shlex
import sys
from pathlib import Path

import fsspec
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import save

from exporter.__main__ import main
from exporter.verify import open_runner
from ganserve import bundle
from ganserve.bundle import example_rows
from ganserve.latents import DISTRIBUTIONS
from tests.exporter.tutorial_files import save_netg, trained_netg

PAGE = (Path(__file__).parents[2] / "docs" / "importing.md").read_text()
COMMANDS = re.findall(r"^\$ python -m exporter (.*)$", PAGE, re.MULTILINE)

SUBCLASSES = PAGE[PAGE.index("## Networks that do not simply") :]
MY_EXPORTS = "\n".join(re.findall(r"```python\n(.*?)```", SUBCLASSES, re.DOTALL))

MY_NETS = """
import torch
from torch import nn


class Generator(nn.Sequential):
    def __init__(self):
        super().__init__(nn.ConvTranspose2d(100, 3, 4, 1, 0), nn.BatchNorm2d(3), nn.Tanh())


class SigmoidGenerator(nn.Sequential):
    def __init__(self):
        super().__init__(nn.ConvTranspose2d(100, 3, 4, 1, 0), nn.Sigmoid())


class FlatGenerator(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(100, 784), nn.Tanh())


class TupleGenerator(Generator):
    def forward(self, z):
        return super().forward(z[:, :, None, None]), z


class DictGenerator(Generator):
    def forward(self, z):
        return {"latents": z, "image": super().forward(z[:, :, None, None])}


class ProGenerator(Generator):
    def forward(self, z, step, alpha):
        return alpha * nn.functional.interpolate(super().forward(z[:, :, None, None]), scale_factor=2**step)


class LabelGenerator(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 100)
        self.main = Generator()

    def forward(self, z, labels):
        return self.main((z * self.embedding(labels))[:, :, None, None])


class AutoEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(64, 16)
        self.decoder = nn.Sequential(nn.Linear(16, 64), nn.Sigmoid())

    def decode(self, z):
        return self.decoder(z).view(-1, 1, 8, 8)

    def forward(self, images):
        return self.decode(self.encoder(images.flatten(1)))


class Noise(nn.Module):
    def forward(self, features):
        return features + torch.randn_like(features)


class NoisyGenerator(nn.Module):
    def __init__(self):
        super().__init__()
        self.noise = Noise()
        self.main = Generator()

    def forward(self, z):
        return self.main(self.noise(z)[:, :, None, None])


class UnetGenerator(nn.Module):
    def __init__(self, norm_layer=nn.BatchNorm2d):
        super().__init__()
        self.main = nn.Sequential(
            *(nn.Conv2d(3, 8, 4, 2, 1), norm_layer(8), nn.ReLU(), nn.Dropout(0.0)),
            *(nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh()),
        )

    def forward(self, images):
        return self.main(images)
"""

CLASSES = {
    "generator": "Generator",
    "sigmoid": "SigmoidGenerator",
    "flat": "FlatGenerator",
    "tuple": "TupleGenerator",
    "dict": "DictGenerator",
    "pro": "ProGenerator",
    "label": "LabelGenerator",
    "autoencoder": "AutoEncoder",
    "noisy": "NoisyGenerator",
    "unet": "UnetGenerator",
}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like that of a reader of the page."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for name, text in (("my_nets", MY_NETS), ("my_exports", MY_EXPORTS)):
        monkeypatch.delitem(sys.modules, name, raising=False)
        (tmp_path / f"{name}.py").write_text(text)
    nets = importlib.import_module("my_nets")
    save_netg(tmp_path / "netG_epoch_24.pth", trained_netg(ngf=1))
    for name, kind in CLASSES.items():
        torch.save(getattr(nets, kind)().state_dict(), tmp_path / f"{name}.pth")
    torch.save(nets.Generator(), tmp_path / "generator.pkl")
    generator = nets.Generator()
    torch.save({"netG": generator.state_dict(), "netD": {"a": torch.zeros(1)}, "epoch": 3}, tmp_path / "checkpoint.pth")
    fsspec.filesystem("memory").pipe("/user/repository/generator.safetensors", save(generator.state_dict()))
    return tmp_path


def run(command: str) -> Result:
    """Runs an example; the Hub is a file system in memory."""
    return CliRunner().invoke(main, shlex.split(command.replace("hf://", "memory://")))


def test_every_flag_in_the_table_has_an_example() -> None:
    flags = {word for command in COMMANDS for word in shlex.split(command) if word.startswith("--")}
    listed = set(re.findall(r"^\|.*\| `(--[a-z-]+)[^|]* \|$", PAGE, re.MULTILINE))
    assert listed == {"--tutorial-netg", "--module", "--pickle", "--output-image", "--output-item", "--forward-kwargs"}
    assert listed <= flags


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_run(command: str, workplace: Path) -> None:
    result = run(command)
    assert result.exit_code == 0, result.output
    assert "warning" not in result.stderr.replace("warning: loading generator.pkl runs the code inside it", "")
    words = shlex.split(command)
    name = words[words.index("--name") + 1]
    assert bundle.read_card(workplace / "models" / name / "1").name == name


def example_of(flag: str) -> str:
    examples: list[str] = [command for command in COMMANDS if flag in command]
    (command,) = examples
    return command


def test_flags_and_subclasses_make_the_same_images(workplace: Path) -> None:
    by_name = {words[words.index("--name") + 1]: words for words in map(shlex.split, COMMANDS)}
    pairs = {name: f"my-{name}" for name in by_name if f"my-{name}" in by_name}
    assert set(pairs) == {"flat", "first", "image", "pro", "threes"}
    for flags, subclass in pairs.items():
        for name in (flags, subclass):
            assert CliRunner().invoke(main, by_name[name]).exit_code == 0
        samples = [(workplace / "models" / name / "1" / "sample.png").read_bytes() for name in (flags, subclass)]
        assert samples[0] == samples[1], flags
        assert len({*Image.open(io.BytesIO(samples[0])).convert("L").tobytes()}) > 10


def test_noise_in_forward_is_refused(workplace: Path) -> None:
    (command,) = (command for command in COMMANDS if "Quiet" in command)
    words = shlex.split(command.replace("my_exports:Quiet", "my_nets:NoisyGenerator"))
    assert "remove noise and dropout from forward" in CliRunner().invoke(main, words).stderr


def test_pix2pix_makes_the_images_of_train_mode(workplace: Path) -> None:
    (command,) = (command for command in COMMANDS if "Pix2Pix" in command)
    assert CliRunner().invoke(main, shlex.split(command)).exit_code == 0
    folder = workplace / "models" / "pix2pix" / "1"
    pixels = example_rows(bundle.read_card(folder).input, 0, 3)
    images, _ = open_runner(folder / bundle.ONNX_FILE, bundle.INPUT_PIXELS)(pixels)
    network = importlib.import_module("my_nets").UnetGenerator()
    network.load_state_dict(torch.load("unet.pth"))
    inputs = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        one_by_one = torch.cat([network.train()(image[None]) for image in inputs])
    torch.testing.assert_close(torch.from_numpy(images), one_by_one, atol=1e-4, rtol=0)
    with torch.no_grad():
        assert (network.eval()(inputs) - one_by_one).abs().max() > 0.01


def test_a_pickled_module_is_refused_without_its_flag(workplace: Path) -> None:
    assert run(example_of("--pickle").replace("--allow-pickle", "")).exit_code == 2
    assert not (workplace / "models").exists()


@pytest.mark.usefixtures("workplace")
def test_without_its_range_the_sigmoid_is_doubted() -> None:
    result = run(example_of("my_nets:SigmoidGenerator").replace("--value-range 0 1", ""))
    (line,) = (line for line in result.stderr.splitlines() if "warning" in line)
    assert line.endswith("all pixels are in 128 .. 255; if the network ends in a sigmoid, add --value-range 0 1")


def test_the_prior_of_the_example_is_on_the_card(workplace: Path) -> None:
    assert run(example_of("--latent-prior")).exit_code == 0
    card = bundle.read_card(workplace / "models" / "uniform" / "1")
    assert card.input == bundle.LatentInput(latent_dim=100, distribution="uniform")


def test_the_table_of_priors_is_complete() -> None:
    rows = PAGE[PAGE.index("| `--latent-prior` |") :].partition("\n\n")[0].splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == list(DISTRIBUTIONS)


@pytest.mark.usefixtures("workplace")
def test_the_checkpoint_of_the_example_says_what_was_taken() -> None:
    command, chosen = (command for command in COMMANDS if "checkpoint.pth" in command)
    assert "--weights checkpoint.pth: took netG, which fits the module" in run(command).stderr.splitlines()
    assert "took" not in run(chosen).stderr


def test_the_subclass_that_scales_takes_numbers_from_0_to_1(workplace: Path) -> None:
    (source,) = (block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "class Scaled" in block)
    (workplace / "scaled.py").write_text(source)
    plain = importlib.import_module("my_nets").Generator().eval()
    scaled = importlib.import_module("scaled").Scaled().eval()
    scaled.load_state_dict(plain.state_dict())
    latents = torch.rand(2, 100, 1, 1)
    torch.testing.assert_close(scaled(latents * 2 - 1), plain(latents))
