from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.trainer.conftest import GAN_PRESETS, made_up_images, small_config, small_gan
from trainer import precision
from trainer.errors import UserError
from trainer.precision import autocast, choose_precision, has_bf16
from trainer.presets import PRESETS
from trainer.training.kinds import new_training

CPU = torch.device("cpu")
BF16_FLAGS = "flags\t\t: fpu avx512f avx512_bf16 amx_tile\n"


def cpuinfo(monkeypatch: pytest.MonkeyPatch, path: Path, text: str) -> None:
    path.write_text(text)
    monkeypatch.setattr(precision, "_CPU_INFO", path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"processor : 0\n{BF16_FLAGS}", True),
        ("flags : fpu amx_bf16\n", True),
        ("Features : fp asimd bf16\n", True),
        ("flags : fpu avx2 avx512f\n", False),
        ("flags : fpu notbf16\n", False),
        ("", False),
    ],
)
def test_a_processor_has_bf16_if_its_flags_list_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, *, expected: bool
) -> None:
    cpuinfo(monkeypatch, tmp_path / "cpuinfo", text)
    assert has_bf16(CPU) is expected


def test_without_processor_flags_there_is_no_bf16(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(precision, "_CPU_INFO", tmp_path / "none")
    assert not has_bf16(CPU)


@pytest.mark.parametrize(
    ("name", "gains", "there", "expected"),
    [
        ("auto", True, True, "bf16"),
        ("auto", False, True, "fp32"),
        ("auto", True, False, "fp32"),
        ("fp32", True, True, "fp32"),
        ("bf16", False, False, "bf16"),
    ],
)
def test_bf16_is_chosen_where_it_helps_or_is_requested(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, expected: str, *, gains: bool, there: bool
) -> None:
    cpuinfo(monkeypatch, tmp_path / "cpuinfo", BF16_FLAGS if there else "")
    assert choose_precision(name, CPU, gains=gains) == expected


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UserError, match=r"--precision 'fp16': choose one of auto, fp32, bf16"):
        choose_precision("fp16", CPU, gains=True)


def test_layers_compute_in_the_chosen_precision() -> None:
    layer, inputs = nn.Linear(3, 2), torch.ones(1, 3)
    with autocast("bf16", CPU):
        assert layer(inputs).dtype == torch.bfloat16
    with autocast("fp32", CPU):
        assert layer(inputs).dtype == torch.float32


def test_convolutional_networks_gain_and_fully_connected_ones_do_not() -> None:
    gaining = {preset.config.preset for preset in PRESETS.values() if preset.config.gains_from_bf16}
    assert gaining >= {"dcgan64-k4", "dcgan-fmnist32", "wgan-gp-digits", "pggan-small", "cyclegan-digits"}
    assert not gaining & {"mlp-mnist", "gan-digits", "mlp-wgan28"}


@pytest.mark.parametrize("key", PRESETS, ids="-".join)
def test_weights_moments_and_results_are_fp32_in_either_precision(key: tuple[str, str]) -> None:
    config = small_config(*key, precision="bf16")
    training = new_training(config, made_up_images(config), CPU)
    for _ in range(getattr(config, "n_critic", 1)):
        measured = training.train_step(0.0)
    state = training.state
    kept = [value for network in state.networks.values() for value in network.state_dict().values()]
    kept += [
        value
        for optimizer in state.optimizers.values()
        for moments in optimizer.state_dict()["state"].values()
        for value in moments.values()
    ]
    kept += [value for name, value in measured.items() if value is not None and name != "resolution"]
    kept += [pool.images for pool in state.pools.values()]
    assert {value.dtype for value in kept if value.is_floating_point()} == {torch.float32}
    assert all(bool(torch.isfinite(value).all()) for value in kept)


@pytest.mark.parametrize("key", GAN_PRESETS, ids="-".join)
def test_a_step_in_bf16_does_about_the_same_as_one_in_fp32(key: tuple[str, str]) -> None:
    measured = {}
    for name in ("fp32", "bf16"):
        torch.manual_seed(3)
        settings: dict[str, object] = {"precision": name, "batch_size": 16, "network.width": 0.25}
        config = small_gan(key[0], key[1], **settings)
        training = new_training(config, made_up_images(config), CPU)
        measured[name] = training.train_step(0.0)
    for figure in ("d_loss", "d_real", "d_fake"):
        exact, reduced = measured["fp32"][figure], measured["bf16"][figure]
        assert exact is not None
        assert reduced is not None
        torch.testing.assert_close(reduced, exact, rtol=0.05, atol=0.05)
