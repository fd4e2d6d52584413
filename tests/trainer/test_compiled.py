from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from msgspec.structs import replace

from tests.trainer.tiny_trainings import CPU, cycle_config, growing_config, noise_domains, noise_images
from trainer import compiled
from trainer.__main__ import main
from trainer.config import AnyConfig, GanConfig, check_config
from trainer.errors import UserError
from trainer.kinds import check_can_train, new_training
from trainer.models import NetworkConfig
from trainer.objectives import OBJECTIVES

GAN_NETWORKS = ("generator", "discriminator", "ema_generator")


def gan_config(**fields: Any) -> GanConfig:
    network = NetworkConfig(architecture="dcgan-k4", image_size=16, latent_dim=4, width=1 / 64)
    settings = {"growth": None, "network": network, "objective": "nonsaturating", "drift": 0.0}
    return growing_config(**settings | fields)


def measured(config: AnyConfig) -> list[dict[str, float]]:
    """What each of a few steps measures; the later ones see what the earlier ones changed."""
    torch.manual_seed(0)
    data = noise_images(config) if isinstance(config, GanConfig) else noise_domains(paired=False)
    training = new_training(config, data, CPU)
    steps = [training.train_step(step / 4) for step in range(4)]
    return [{name: value.item() for name, value in step.items() if value is not None} for step in steps]


@pytest.fixture
def compiler() -> None:
    try:
        compiled.check_compiler(CPU)
    except UserError as error:
        pytest.skip(f"NO COMPILER: compiled steps were not tried: {error}")


# PyTorch's compiler looks at .grad of the fakes itself.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf Tensor:UserWarning")
@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(
    "config",
    [
        pytest.param(gan_config(), id="nonsaturating"),
        pytest.param(gan_config(objective="wgan-gp"), id="wgan-gp"),
        pytest.param(cycle_config(steps=2), id="cyclegan", marks=pytest.mark.slow),  # to compile
    ],
)
def test_a_compiled_step_computes_what_an_eager_one_does(config: AnyConfig) -> None:
    eager, fast = measured(config), measured(replace(config, compile_networks=True))
    for exact, step in zip(eager, fast, strict=True):
        assert step == pytest.approx(exact, rel=1e-3, abs=1e-4)
    assert eager[0] != pytest.approx(eager[-1], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_critic_whose_penalty_differentiates_it_twice_stays_as_it_is(name: str) -> None:
    chosen = compiled.names_to_compile(gan_config(objective=name), GAN_NETWORKS)
    penalised = OBJECTIVES[name].constraint in ("gradient-penalty", "divergence")
    assert chosen == (["generator"] if penalised else ["generator", "discriminator"])


def test_every_network_of_a_translator_is_compiled() -> None:
    names = ["generator_ab", "generator_ba", "discriminator_a", "discriminator_b"]
    assert compiled.names_to_compile(cycle_config(), names) == names


def test_nothing_is_compiled_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "compile_networks", lambda *_: pytest.fail("compiled"))
    config = gan_config()
    check_can_train(config, noise_images(config), CPU)
    new_training(config, noise_images(config), CPU)


def test_a_network_that_grows_is_refused() -> None:
    with pytest.raises(UserError, match="--compile: a network that grows"):
        check_config(growing_config(compile_networks=True))


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "world_size", lambda: 2)
    config = gan_config(compile_networks=True)
    with pytest.raises(UserError, match="--compile: layers that see the batches of all processes"):
        check_can_train(config, noise_images(config), CPU)


def test_a_missing_compiler_is_said_before_a_run_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_function: object) -> object:
        raise RuntimeError("no working C++ compiler\n\nSet TORCHDYNAMO_VERBOSE=1")

    compiled._trouble.cache_clear()
    monkeypatch.setattr(torch, "compile", fail)
    result = CliRunner().invoke(main, ["--model", "gan", "--compile", "--out", str(tmp_path / "runs")])
    compiled._trouble.cache_clear()
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == (
        "Error: --compile: PyTorch's compiler does not work here (no working C++ compiler);"
        " install a C++ compiler, or leave it out"
    )
    assert not (tmp_path / "runs").exists()
