from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from exporter.__main__ import main
from exporter.errors import InputError
from exporter.tutorial_dcgan import from_tutorial_netg
from ganserve import bundle
from ganserve.bundle import LatentInput
from tests.exporter.tutorial_files import LargerNetG, TutorialNetG, save_netg, trained_netg
from trainer.models import NetworkConfig, build_generator


@pytest.mark.parametrize(("nz", "ngf", "nc"), [(100, 2, 3), (16, 3, 1), (1, 1, 4)])
def test_sizes_are_read_from_the_weights_and_images_match_the_network(
    nz: int, ngf: int, nc: int, tmp_path: Path
) -> None:
    path = tmp_path / "netG_epoch_24.pth"
    original = save_netg(path, trained_netg(nz, ngf, nc))
    source = from_tutorial_netg(path)
    assert (source.input, source.image_shape) == (LatentInput(latent_dim=nz), (nc, 64, 64))
    assert (source.kind, source.architecture) == ("dcgan", "dcgan-k4")
    latents = torch.randn(3, nz)
    with torch.no_grad():
        assert torch.equal(source.network(latents), original(latents[:, :, None, None]))


def test_the_network_equals_dcgan_k4_layer_by_layer(tmp_path: Path) -> None:
    path = tmp_path / "netG.pth"
    original = save_netg(path, trained_netg(12, 4, 3))
    ours = build_generator(
        NetworkConfig(architecture="dcgan-k4", image_size=64, channels=3, latent_dim=12, width=4 / 64)
    ).eval()
    ours.load_state_dict(dict(zip(ours.state_dict(), original.state_dict().values(), strict=True)))
    latents = torch.randn(2, 12)
    with torch.no_grad():
        torch.testing.assert_close(from_tutorial_netg(path).network(latents), ours(latents))


def test_the_tutorials_own_sizes_have_the_published_number_of_parameters(tmp_path: Path) -> None:
    path = tmp_path / "netG_epoch_24.pth"
    save_netg(path, TutorialNetG())
    assert sum(parameter.numel() for parameter in from_tutorial_netg(path).network.parameters()) == 3_576_704


def test_the_network_is_found_in_a_checkpoint_of_several(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    original = trained_netg()
    torch.save({"epoch": 3, "netD": torch.nn.Conv2d(1, 1, 3).state_dict(), "netG": original.state_dict()}, path)
    latents = torch.randn(3, 100)
    notes: list[str] = []
    with torch.no_grad():
        images = from_tutorial_netg(path, None, notes.append).network(latents)
        assert torch.equal(images, original(latents[:, :, None, None]))
    assert notes == [f"--tutorial-netg {path}: took netG, which fits the module"]


@pytest.mark.parametrize("form", ["data-parallel", "half", "old", "safetensors"])
def test_other_forms_of_the_same_file_are_read(form: str, tmp_path: Path) -> None:
    original = trained_netg()
    state = original.state_dict()
    path = tmp_path / ("netG.safetensors" if form == "safetensors" else "netG.pth")
    if form == "data-parallel":
        torch.save({f"module.{key}": tensor for key, tensor in state.items()}, path)
    elif form == "half":
        torch.save(original.half().state_dict(), path)
        original.float()
    elif form == "old":  # before batch norm counted its batches
        torch.save({key: tensor for key, tensor in state.items() if "num_batches" not in key}, path)
    else:
        save_file(state, path)
    latents = torch.randn(2, 100)
    with torch.no_grad():
        assert torch.equal(from_tutorial_netg(path).network(latents), original(latents[:, :, None, None]))


@pytest.mark.usefixtures("without_onnx")
def test_the_command_exports_a_bundle(tmp_path: Path) -> None:
    path = tmp_path / "netG_epoch_24.pth"
    save_netg(path)
    models = tmp_path / "models"
    result = CliRunner().invoke(main, ["--tutorial-netg", str(path), "--name", "faces", "--models", str(models)])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == str(models / "faces" / "1")
    card = bundle.read_card(models / "faces" / "1")
    assert (card.input, card.channels, card.height, card.width) == (LatentInput(latent_dim=100), 3, 64, 64)
    assert (card.kind, card.architecture, card.dataset) == ("dcgan", "dcgan-k4", "")


@pytest.mark.parametrize("convolutions", [4, 6])
def test_another_depth_is_refused(convolutions: int, tmp_path: Path) -> None:
    path = tmp_path / "netG.pth"
    save_netg(path, LargerNetG(convolutions))
    with pytest.raises(InputError, match=rf"^--tutorial-netg .*netG\.pth: has {convolutions} conv.* has 5") as caught:
        from_tutorial_netg(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"main.0.weight": torch.zeros(100, 16, 3, 3)}, r"main\.0\.weight has shape \(100, 16, 3, 3\), where the"),
        ({"main.3.weight": torch.zeros(16, 9, 4, 4)}, r"main\.3\.weight has shape \(16, 9, 4, 4\), where .*\(16, 8, 4"),
        ({"main.4.weight": torch.zeros(3)}, r"main\.4\.weight has shape \(3,\), but the module's has \(8,\)$"),
        ({"main.0.bias": torch.zeros(16)}, r"has unknown main\.0\.bias"),
        ({"main.1.running_var": None}, r"lacks main\.1\.running_var"),
        ({"main.12.weight": None}, r"has 4 convolutions"),
    ],
)
def test_a_file_with_other_tensors_is_refused_in_one_line(
    changes: dict[str, torch.Tensor | None], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "netG.pth"
    state = trained_netg().state_dict() | changes
    torch.save({key: tensor for key, tensor in state.items() if tensor is not None}, path)
    with pytest.raises(InputError, match=message) as caught:
        from_tutorial_netg(path)
    assert str(caught.value).startswith(f"--tutorial-netg {path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"fc.weight": torch.zeros(3, 3)},
            r"has 0 convolutions main\.N\.weight, ",
        ),
        ({}, "has 0 convolutions"),
        ({"netG": {"main.0.weight": torch.zeros(1)}, "epoch": 3}, "has 0 convolutions"),
        ({"epoch": 3}, "holds a dict with epoch, and no state dict"),
    ],
)
def test_weights_of_another_network_are_refused(value: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(value, path)
    with pytest.raises(InputError, match=message):
        from_tutorial_netg(path)


def test_an_entire_module_is_not_unpickled_as_weights(tmp_path: Path) -> None:
    path = tmp_path / "generator.pkl"
    torch.save(trained_netg(), path)
    with pytest.raises(InputError, match=r"^--tutorial-netg .*runs the code of .*TutorialNetG; .*add --allow-pickle"):
        from_tutorial_netg(path)


def test_weights_that_are_not_finite_are_not_published(tmp_path: Path) -> None:
    path = tmp_path / "netG.pth"
    netg = trained_netg()
    torch.nn.init.constant_(netg.main[12].weight, float("nan"))  # type: ignore[arg-type]
    save_netg(path, netg)
    models = tmp_path / "models"
    result = CliRunner().invoke(main, ["--tutorial-netg", str(path), "--name", "faces", "--models", str(models)])
    assert result.exit_code == 2, result.output
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert not (models / "faces").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tutorial-netg", "netG.pth"], "--tutorial-netg also needs --name"),
        (["--tutorial-netg", "none.pth", "--name", "x"], "--tutorial-netg none.pth: no such file"),
        (
            ["--tutorial-netg", "netG.pth", "--name", "x", "--latent-dim", "3"],
            "--latent-dim is valid only with",
        ),
        (["--tutorial-netg", "netG.pth", "run", "--name", "x"], "give exactly one of a run folder"),
        (["--tutorial-netg", "netG.pth", "--name", "x", "--value-range", "0", "1"], "--value-range is valid only with"),
    ],
)
def test_a_mistake_prints_one_line(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("Error: ") == 1
