from __future__ import annotations

import argparse
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from exporter.errors import InputError
from exporter.weights import pick, read_weights
from tests.exporter.generators import LATENT_DIM, FlatGenerator, TutorialGenerator, randomise
from tests.exporter.test_torchscript_weights import save_torchscript

State = Mapping[str, Any]


def ignore(line: str) -> None:
    """Hears of choices."""


def load(path: Path, module: nn.Module, key: str | None = None, **options: Any) -> list[str]:
    """Loads a file into a module; returns the lines for the user."""
    notes: list[str] = []
    read_weights(path, "--weights", notes.append, **options).within(key).load_into(module, notes.append)
    return [note.replace(str(path), "FILE") for note in notes]


def assert_loads(path: Path, original: nn.Module, key: str | None = None, fresh: nn.Module | None = None) -> list[str]:
    fresh = fresh or TutorialGenerator()
    notes = load(path, fresh, key)
    for name, tensor in original.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], tensor), name
    return notes


def prefixed(state: State, *prefixes: str) -> dict[str, Any]:
    return {f"{prefix}{key}": value for prefix in prefixes for key, value in state.items()}


class LazyGenerator(FlatGenerator):
    def __init__(self) -> None:
        super().__init__()
        self.main[0], self.main[1] = nn.LazyLinear(16), nn.LazyBatchNorm1d(0.8)


def test_lazy_layers_take_their_shapes_from_the_weights(tmp_path: Path) -> None:
    original, fresh = randomise(FlatGenerator()), LazyGenerator()
    torch.save(original.state_dict(), tmp_path / "a.pth")
    assert_loads(tmp_path / "a.pth", original, fresh=fresh)
    latents = torch.randn(3, LATENT_DIM)
    assert torch.equal(fresh.eval()(latents), original.eval()(latents))


def other() -> State:
    """The weights of a discriminator, some with the generator's names."""
    return nn.Sequential(nn.Conv2d(3, 4, 4), nn.BatchNorm2d(4)).state_dict() | {"main.0.weight": torch.zeros(1)}


# Layouts of checkpoints of public repositories, and the key that is found in each.
LAYOUTS: dict[str, tuple[Any, str]] = {
    "plain": (lambda s: s, ""),
    "DataParallel": (lambda s: prefixed(s, "module."), ""),
    "torch.compile": (lambda s: prefixed(s, "_orig_mod."), ""),
    "compile in DataParallel": (lambda s: prefixed(s, "module._orig_mod."), ""),
    "DataParallel in compile": (lambda s: prefixed(s, "_orig_mod.module."), ""),
    "one compiled child": (lambda s: {key.replace("main.", "main._orig_mod."): value for key, value in s.items()}, ""),
    "with numbers beside": (lambda s: {**s, "epoch": 3, "name": "x"}, ""),
    "netG, netD": (lambda s: {"netG": s, "netD": other(), "epoch": 3}, "netG"),
    "a list": (lambda s: [other(), s], "1"),
    "state_dict, generator.": (
        lambda s: {"state_dict": prefixed(s, "generator.") | prefixed(other(), "discriminator."), "epoch": 3},
        "state_dict.generator",
    ),
    "generator.module.": (
        lambda s: prefixed(s, "generator.module.") | prefixed(other(), "discriminator."),
        "generator",
    ),
    "models, netG, module.": (lambda s: {"models": {"netG": prefixed(s, "module.")}}, "models.netG"),
    "an optimiser": (lambda s: {"g": s, "g_optim": {"state": {0: {"exp_avg": torch.zeros(2)}}}}, "g"),
    "Namespace": (lambda s: {"netG": s, "opt": argparse.Namespace(nz=64, path=Path("x"))}, "netG"),
    "SimpleNamespace": (lambda s: {"netG": s, "opt": types.SimpleNamespace(nz=64)}, "netG"),
    "numpy scalars": (lambda s: {"netG": s, "fid": np.float64(3.5), "step": np.int64(3), "ok": np.bool_(True)}, "netG"),
    "numpy arrays": (lambda s: {"netG": s, "losses": np.zeros(3, np.float32)}, "netG"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_network_is_found_in_every_layout(name: str, tmp_path: Path) -> None:
    layout, key = LAYOUTS[name]
    original = randomise(TutorialGenerator())
    path = tmp_path / "checkpoint.pth"
    torch.save(layout(original.state_dict()), path)
    expected = [f"--weights FILE: took {key}, which fits the module"] if key else []
    assert assert_loads(path, original) == expected
    if key:
        assert assert_loads(path, original, key) == []  # a choice of the user needs no line


def test_a_torchscript_file_holds_weights(tmp_path: Path) -> None:
    original = randomise(TutorialGenerator()).eval()
    path = save_torchscript(original, tmp_path / "g.pt", "trace", torch.zeros(2, LATENT_DIM, 1, 1))
    assert assert_loads(path, original) == []


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ""])
def test_the_content_tells_the_format(suffix: str, tmp_path: Path) -> None:
    original = randomise(TutorialGenerator())
    path = tmp_path / f"generator{suffix}"
    save_file(prefixed(original.state_dict(), "generator."), path)
    assert assert_loads(path, original) == ["--weights FILE: took generator, which fits the module"]


def test_what_a_compiled_network_saves_is_read(tmp_path: Path) -> None:
    original = randomise(TutorialGenerator())
    path = tmp_path / "compiled.pth"
    torch.save(nn.DataParallel(cast(nn.Module, torch.compile(original))).state_dict(), path)
    assert_loads(path, original)


def test_what_a_running_average_of_pytorch_saves_is_read(tmp_path: Path) -> None:
    original = randomise(TutorialGenerator())
    path = tmp_path / "average.pth"
    torch.save(AveragedModel(original).state_dict(), path)
    assert assert_loads(path, original) == []


def test_an_attribute_named_module_is_no_wrapper(tmp_path: Path) -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 2)
            self.weight = nn.Parameter(torch.zeros(1))

    original = Holder()
    path = tmp_path / "holder.pth"
    torch.save(original.state_dict(), path)  # module.weight and weight would be one name
    assert_loads(path, original, fresh=Holder())


def test_a_running_average_is_preferred_and_said(tmp_path: Path) -> None:
    average, raw = randomise(TutorialGenerator()), TutorialGenerator()
    path = tmp_path / "ema.pth"
    torch.save({"g": raw.state_dict(), "d": other(), "g_ema": average.state_dict()}, path)
    assert assert_loads(path, average) == [
        "--weights FILE: took g_ema, the running average; --weights-key takes another: g"
    ]
    assert assert_loads(path, raw, "g") == []


def test_if_several_networks_fit_the_user_chooses(tmp_path: Path) -> None:
    a2b, b2a = randomise(TutorialGenerator()), TutorialGenerator()
    path = tmp_path / "cycle.pth"
    torch.save({"netG_A2B": a2b.state_dict(), "netG_B2A": b2a.state_dict()}, path)
    with pytest.raises(InputError, match=r"netG_A2B, netG_B2A all fit .*; choose one with --weights-key netG_A2B,"):
        load(path, TutorialGenerator())
    assert assert_loads(path, a2b, "netG_A2B") == []
    assert assert_loads(path, b2a, "netG_B2A") == []


@pytest.mark.parametrize("key", ["netX", "netG.odd", "net", "netG.main.0.weight"])
def test_an_unknown_key_lists_those_in_the_file(key: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"netG": TutorialGenerator().state_dict(), "netD": other()}, path)
    with pytest.raises(InputError, match=rf"--weights-key {key} is not in it; it holds netG, netD$"):
        load(path, TutorialGenerator(), key)


def test_a_key_narrows_the_search(tmp_path: Path) -> None:
    first, second = randomise(TutorialGenerator()), TutorialGenerator()
    path = tmp_path / "two.pth"
    torch.save({"old": prefixed(first.state_dict(), "g."), "new": prefixed(second.state_dict(), "g.")}, path)
    assert assert_loads(path, first, "old") == ["--weights FILE: took old.g, which fits the module"]


def test_if_none_fits_the_closest_is_compared(tmp_path: Path) -> None:
    state = TutorialGenerator().state_dict()
    del state["main.3.weight"]
    path = tmp_path / "odd.pth"
    torch.save({"netD": other(), "netG": state | {"extra": torch.zeros(1)}}, path)
    with pytest.raises(
        InputError,
        match=r": netG: does not fit .*: lacks main\.3\.weight, has unknown extra; .* holds netD, netG$",
    ):
        load(path, TutorialGenerator())


def test_other_sizes_name_the_part_and_the_first_tensor(tmp_path: Path) -> None:
    path = tmp_path / "wide.pth"
    torch.save({"netD": other(), "netG": TutorialGenerator(width=8).state_dict()}, path)
    with pytest.raises(InputError, match=r": netG: main\.0\.weight has shape \(6, 8, 4, 4\), but .* \(6, 4, 4, 4\)$"):
        load(path, TutorialGenerator())


class InstanceNormGenerator(nn.Sequential):
    def __init__(self, track: bool = False) -> None:
        super().__init__(nn.Conv2d(3, 4, 1), nn.InstanceNorm2d(4, affine=True, track_running_stats=track))


def test_statistics_that_instance_norm_does_not_keep_are_left_out_and_said(tmp_path: Path) -> None:
    old = InstanceNormGenerator(track=True)  # what InstanceNorm saved before PyTorch 0.4
    path = tmp_path / "old.pth"
    torch.save({key: tensor for key, tensor in old.state_dict().items() if "num_batches" not in key}, path)
    fresh = InstanceNormGenerator()
    notes = load(path, fresh)
    assert torch.equal(fresh.state_dict()["0.weight"], old.state_dict()["0.weight"])
    assert notes == [
        "--weights FILE: left out 1.running_mean, 1.running_var: the InstanceNorm layers of the module keep no running"
        " statistics"
    ]


def test_statistics_that_instance_norm_keeps_are_loaded(tmp_path: Path) -> None:
    original = randomise(InstanceNormGenerator(track=True))
    path = tmp_path / "tracked.pth"
    torch.save(original.state_dict(), path)
    assert assert_loads(path, original, fresh=InstanceNormGenerator(track=True)) == []


def test_batch_norm_from_before_it_counted_batches_is_loaded(tmp_path: Path) -> None:
    state = FlatGenerator().state_dict()
    path = tmp_path / "old.pth"
    torch.save({key: tensor for key, tensor in state.items() if "num_batches" not in key}, path)
    assert load(path, FlatGenerator()) == []


def test_names_that_a_layer_converts_are_accepted(tmp_path: Path) -> None:
    class Converting(nn.Linear):
        """Takes `kernel` for `weight`, as parametrized layers take the names of older versions."""

        def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
            if f"{prefix}kernel" in state_dict:
                state_dict[f"{prefix}weight"] = state_dict.pop(f"{prefix}kernel")
            super()._load_from_state_dict(state_dict, prefix, *rest)

    original, fresh = Converting(2, 2), Converting(2, 2)
    path = tmp_path / "converted.pth"
    torch.save({"kernel": original.weight.detach(), "bias": original.bias.detach()}, path)
    load(path, fresh)
    assert torch.equal(fresh.weight, original.weight)


class Settings:
    """A class of a training script."""


def test_code_runs_only_if_it_is_allowed(tmp_path: Path) -> None:
    original = randomise(TutorialGenerator())
    path = tmp_path / "custom.pth"
    torch.save({"netG": original.state_dict(), "opt": Settings()}, path)
    with pytest.raises(InputError, match=r"runs the code of [\w.]+\.Settings; .* --allow-pickle"):
        load(path, TutorialGenerator())
    assert load(path, TutorialGenerator(), allow_pickle=True) == [
        "warning: loading FILE runs the code inside it",
        "--weights FILE: took netG, which fits the module",
    ]


def test_permission_alone_runs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "plain.pth"
    torch.save(TutorialGenerator().state_dict(), path)
    assert load(path, TutorialGenerator(), allow_pickle=True) == []


def test_an_entire_module_gives_its_weights_if_code_is_allowed(tmp_path: Path) -> None:
    original = randomise(TutorialGenerator())
    path = tmp_path / "module.pkl"
    torch.save({"G": original}, path)
    fresh = TutorialGenerator()
    load(path, fresh, allow_pickle=True)
    assert torch.equal(fresh.state_dict()["main.0.weight"], original.state_dict()["main.0.weight"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "pointer of Git LFS, .*; run git lfs pull"),
        (b"\n<!DOCTYPE html>\n<html>", "is a web page; download the file itself"),
        (b"junk", r"neither safetensors, TorchScript nor a file of torch\.save; write it with"),
    ],
)
def test_what_a_download_often_is_instead_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "generator.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_weights(path, "--weights", ignore)


def test_an_incomplete_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "generator.pth"
    torch.save(TutorialGenerator().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"is damaged or incomplete; copy or download it again$"):
        read_weights(path, "--weights", ignore)


def test_incomplete_safetensors_say_why(tmp_path: Path) -> None:
    path = tmp_path / "generator.safetensors"
    save_file(TutorialGenerator().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"cannot be read \(SafetensorError: .*\); write it with"):
        read_weights(path, "--weights", ignore)


def test_a_layer_that_refuses_its_weights_gives_one_line(tmp_path: Path) -> None:
    class Picky(nn.Linear):
        def _load_from_state_dict(self, *arguments: Any) -> None:
            raise ValueError("first\nsecond")

    path = tmp_path / "picky.pth"
    torch.save(nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(InputError, match=r"does not fit the module: first second$"):
        load(path, Picky(2, 2))


def test_the_only_one_is_picked_without_a_word() -> None:
    assert pick(["netG"], "", "", ignore) == "netG"
    with pytest.raises(InputError, match="a_ema, b_ema all fit; choose one with --weights-key a_ema"):
        pick(["a_ema", "b_ema"], "", "fit", ignore)
    for average in ("g.EMA", "ema_G", "generator_ema", "g_running", "average"):
        assert pick(["schema", average], "", "fit", ignore) == average
