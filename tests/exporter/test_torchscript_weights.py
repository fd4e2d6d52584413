from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from exporter.torchscript import quiet_torchscript
from exporter.torchscript_weights import is_torchscript, read_torchscript_weights
from tests.exporter.generators import LATENT_DIM, TutorialGenerator, randomise


class Mixed(nn.Module):
    """Tensors of several types, shared, empty and sliced; lists; and a buffer that a state dict leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 2), nn.BatchNorm1d(2)])
        self.in_half = nn.Parameter(torch.arange(3).half())
        self.in_bfloat16 = nn.Parameter(torch.arange(3).bfloat16())
        self.in_double = nn.Parameter(torch.arange(3).double())
        self.sliced = nn.Parameter(torch.arange(12.0).reshape(3, 4)[1:, ::2].T)
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("empty", torch.empty(0, 2))
        self.register_buffer("unsaved", torch.ones(1), persistent=False)
        self.sizes = [1, 2]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def save_torchscript(module: nn.Module, path: Path, how: str, example: Tensor) -> Path:
    save: Any = torch.jit.save
    with quiet_torchscript():
        convert: Any = torch.jit.script if how == "script" else torch.jit.trace
        save(convert(module, *([] if how == "script" else [example])), path)
    return path


@pytest.mark.parametrize("how", ["script", "trace"])
def test_the_tensors_are_those_of_the_state_dict(how: str, tmp_path: Path) -> None:
    module = randomise(Mixed()).eval()
    path = save_torchscript(module, tmp_path / "m.pt", how, torch.zeros(2, 2))
    tensors = read_torchscript_weights(path)
    assert tensors.pop("unsaved").tolist() == [1.0]
    assert tensors.keys() == module.state_dict().keys()
    for key, tensor in module.state_dict().items():
        assert tensors[key].dtype == tensor.dtype
        assert torch.equal(tensors[key], tensor), key


def test_other_archives_are_not_torchscript(tmp_path: Path) -> None:
    generator = TutorialGenerator()
    torch.save(generator.state_dict(), tmp_path / "g.pth")
    assert not is_torchscript(tmp_path / "g.pth")
    (tmp_path / "junk").write_bytes(b"junk")
    assert not is_torchscript(tmp_path / "junk")
    assert is_torchscript(
        save_torchscript(generator.eval(), tmp_path / "g.pt", "trace", torch.zeros(2, LATENT_DIM, 1, 1))
    )


class Attack:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_other_objects_are_refused_and_their_code_is_not_run(tmp_path: Path) -> None:
    path, touched = tmp_path / "attack.pt", tmp_path / "touched"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("attack/constants.pkl", pickle.dumps(()))
        archive.writestr("attack/data.pkl", pickle.dumps(Attack(touched), 2))
    assert is_torchscript(path)
    with pytest.raises(pickle.UnpicklingError, match="is no part of a module of layers"):
        read_torchscript_weights(path)
    assert not touched.exists()
