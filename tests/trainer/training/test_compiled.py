from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from msgspec.structs import replace
from torch import nn
from torch._dynamo.exc import TorchDynamoException
from torch._dynamo.utils import counters

from tests.trainer.conftest import made_up_images, small_gan
from tests.trainer.tiny_trainings import CPU, cycle_config, growing_config, noise_domains, noise_images
from trainer import command
from trainer.__main__ import main
from trainer.config import AnyConfig, GanConfig
from trainer.errors import UserError
from trainer.models import NetworkConfig
from trainer.objectives import OBJECTIVES
from trainer.progress import Progress
from trainer.runs.run_folder import RunFolder
from trainer.training import compiled
from trainer.training.kinds import check_can_train, new_training
from trainer.training.loop import train

# PyTorch's compiler looks at .grad of the fakes itself.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")

MLP = NetworkConfig(architecture="mlp-shallow", image_size=16, latent_dim=4, width=1 / 64)  # soonest compiled
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


def graphs_made() -> int:
    """How many pieces PyTorch has compiled since it counts."""
    return int(counters["stats"]["unique_graphs"])


@pytest.fixture
def compiler() -> None:
    try:
        compiled.check_compiler(CPU)
    except UserError as error:
        pytest.skip(f"NO COMPILER: compiled steps were not tried: {error}")


def assert_compiled_equals_eager(config: AnyConfig) -> None:
    eager, before = measured(config), graphs_made()
    fast = measured(replace(config, compile_networks=True))
    assert graphs_made() > before
    for exact, step in zip(eager, fast, strict=True):
        assert step == pytest.approx(exact, rel=1e-3, abs=1e-4)
    assert eager[0] != pytest.approx(eager[-1], rel=1e-3, abs=1e-4)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(
    "config",
    [
        pytest.param(gan_config(network=MLP), id="mlp"),
        pytest.param(cycle_config(), id="cyclegan", marks=pytest.mark.slow),  # to compile
    ],
)
def test_a_compiled_step_computes_what_an_eager_one_does(config: AnyConfig) -> None:
    assert_compiled_equals_eager(config)


@pytest.mark.usefixtures("only_captured")
@pytest.mark.parametrize(
    "config",
    [
        gan_config(),
        gan_config(objective="wgan-gp"),
        gan_config(objective="relativistic", r1=1.0, r2=1.0, penalty_every=2),
        cycle_config(),
    ],
    ids=["nonsaturating", "wgan-gp", "relativistic with r1 and r2", "cyclegan"],
)
def test_a_step_of_captured_graphs_computes_what_an_eager_one_does(config: AnyConfig) -> None:
    assert_compiled_equals_eager(config)


@pytest.mark.parametrize("penalties", [{}, {"r1": 1.0}, {"r2": 1.0}], ids=str)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_critic_whose_penalty_differentiates_it_twice_stays_as_it_is(name: str, penalties: dict[str, float]) -> None:
    chosen = compiled.names_to_compile(gan_config(objective=name, **penalties), GAN_NETWORKS)
    penalised = bool(penalties) or OBJECTIVES[name].constraint in ("gradient-penalty", "divergence")
    assert chosen == (["generator"] if penalised else ["generator", "discriminator"])


def test_every_network_of_a_translator_is_compiled() -> None:
    names = ["generator_ab", "generator_ba", "discriminator_a", "discriminator_b"]
    assert compiled.names_to_compile(cycle_config(), names) == names


def test_nothing_is_compiled_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.Module, "compile", lambda *_, **__: pytest.fail("compiled"))
    config = gan_config()
    check_can_train(config, noise_images(config), CPU)
    new_training(config, noise_images(config), CPU)
    with pytest.raises(pytest.fail.Exception):
        new_training(replace(config, compile_networks=True), noise_images(config), CPU)


@pytest.mark.usefixtures("only_captured")
def test_every_training_of_a_process_is_compiled() -> None:
    for batch_size in (4, 5, 6):  # PyTorch keeps 8 compiled versions, and each of these needs several
        before = graphs_made()
        measured(gan_config(batch_size=batch_size, compile_networks=True))
        assert graphs_made() > before + 2


@pytest.mark.usefixtures("only_captured")
def test_images_of_a_compiled_translator_are_made_uncompiled() -> None:
    config = cycle_config(compile_networks=True)
    training = new_training(config, noise_domains(paired=False), CPU)
    before = graphs_made()
    training.train_step(0.0)
    assert graphs_made() > before
    before = graphs_made()
    training.evaluate()
    training.sample()
    assert graphs_made() == before


def test_a_network_that_grows_is_refused() -> None:
    with pytest.raises(UserError, match="--compile: a growing network"):
        growing_config(compile_networks=True).check()


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "world_size", lambda: 2)
    config = gan_config(compile_networks=True)
    with pytest.raises(UserError, match="--compile: not available with several processes"):
        check_can_train(config, noise_images(config), CPU)


def no_compiler(_function: object) -> object:
    raise RuntimeError("no working C++ compiler\n\nSet TORCHDYNAMO_VERBOSE=1")


@pytest.fixture
def _without_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    compiled._trouble.cache_clear()
    monkeypatch.setattr(torch, "compile", no_compiler)
    yield
    compiled._trouble.cache_clear()


NO_COMPILER = (
    "Error: --compile: PyTorch's compiler does not work here (RuntimeError: no working C++ compiler);"
    " install a C++ compiler, or give --no-compile"
)


@pytest.mark.usefixtures("_without_compiler")
def test_a_missing_compiler_is_said_before_a_run_begins(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--model", "gan", "--compile", "--out", str(tmp_path / "runs")])
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (2, NO_COMPILER)
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("_without_compiler")
def test_a_run_can_go_on_without_the_compiler_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet: Progress
) -> None:
    config = small_gan("gan", "gan-digits", steps=1)
    run = RunFolder.create(tmp_path, config)
    train(config, run, made_up_images(config), quiet)
    run.write_config(replace(config, compile_networks=True))
    monkeypatch.setattr(command, "load_with_config", lambda config, _progress, **_: (config, made_up_images(config)))
    resume = ["--resume", str(run.path), "--steps", "2"]
    refused = CliRunner().invoke(main, resume)
    assert (refused.exit_code, refused.stderr.splitlines()[-1]) == (2, NO_COMPILER)
    result = CliRunner().invoke(main, [*resume, "--no-compile"])
    assert result.exit_code == 0, result.output
    assert run.read_config() == replace(config, steps=2)


@pytest.mark.parametrize(
    ("is_stopped", "expected", "message"),
    [
        (True, KeyboardInterrupt, "interrupted while compiling; steps after the last checkpoint are lost"),
        (False, UserError, r"--compile: PyTorch's compiler fails \([A-Za-z]+: g\+\+ is gone\); give --no-compile"),
    ],
    ids=["ctrl-c", "fault"],
)
def test_a_fault_of_the_compiler_is_one_line(is_stopped: bool, expected: type[BaseException], message: str) -> None:
    with pytest.raises(expected, match=message), compiled.compiler_faults(lambda: is_stopped):
        raise TorchDynamoException("g++ is gone\nand much more")
