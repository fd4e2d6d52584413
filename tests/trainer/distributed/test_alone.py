"""A process that trains alone, and the layers that several processes share, in one."""

from __future__ import annotations

import copy
import io
from contextlib import redirect_stderr, redirect_stdout

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from tests.trainer.conftest import GAN_PRESETS, small_gan
from trainer import parallel
from trainer import parallel as distributed
from trainer.errors import UserError
from trainer.models import across_processes as layers
from trainer.models import build_discriminator, build_generator
from trainer.models.across_processes import SharedBatchNorm, SharedDropout, SharedMinibatchStd, across_processes
from trainer.models.growth import GrowthConfig, batch_size_at, batch_sizes
from trainer.models.progressive_layers import MinibatchStd
from trainer.parallel import (
    Launch,
    all_rows,
    any_of_all,
    average_gradients,
    check_shares,
    first_before_others,
    first_speaks,
    joined,
    launch,
    means_of_all,
    own_cuda_device,
    own_rows,
    texts_of_all,
    together,
    world_size,
)

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1"}


def started_by_torchrun(monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
    for name, value in (TORCHRUN | changes).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def two_pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `across_processes` think that there are two, though nothing is exchanged."""
    monkeypatch.setattr(layers, "world_size", lambda: 2)


def test_a_process_alone_is_the_first_and_starts_no_group() -> None:
    assert launch() is None
    with joined():
        assert not dist.is_initialized()
        assert world_size() == 1


def test_a_process_alone_keeps_its_tensors() -> None:
    batch, weight = torch.arange(3.0), nn.Parameter(torch.ones(2))
    weight.grad = gradient = torch.ones(2)
    average_gradients(torch.optim.SGD([weight], lr=1.0))
    assert weight.grad is gradient
    assert own_rows(batch) is batch
    assert all_rows(batch) is batch
    assert means_of_all([batch[1]]) == [1.0]
    assert texts_of_all("a") == ["a"]
    assert (any_of_all(True), any_of_all(False)) == (True, False)
    with together(), first_before_others(True):
        check_shares([7])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Launch(1, 2, 1)),
        ({"RANK": "0", "LOCAL_RANK": "0"}, Launch(0, 2, 0)),
        ({"WORLD_SIZE": "1", "RANK": "0"}, None),
        ({"WORLD_SIZE": "two"}, None),
        ({"RANK": ""}, None),
    ],
)
def test_torchrun_tells_a_process_its_rank(
    changes: dict[str, str], expected: Launch | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    started_by_torchrun(monkeypatch, **changes)
    assert launch() == expected


@pytest.mark.parametrize(("rank", "out"), [("0", "out\n"), ("1", "")])
def test_only_the_first_speaks(rank: str, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started_by_torchrun(monkeypatch, RANK=rank)
    stdout, stderr = io.StringIO(), io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr), first_speaks():
        print("out")  # noqa: T201
    assert stdout.getvalue() == out


@pytest.mark.parametrize(("local_rank", "count"), [("1", 1), ("3", 2)])
def test_too_few_devices_are_an_error_that_names_the_remedy(
    local_rank: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    started_by_torchrun(monkeypatch, LOCAL_RANK=local_rank)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(UserError, match=f"--nproc-per-node {count}, or train with --device cpu"):
        parallel.choose_device("auto")
    assert parallel.choose_device("cpu") == torch.device("cpu")


def test_each_process_has_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert own_cuda_device() == torch.device("cuda")
    started_by_torchrun(monkeypatch)
    assert own_cuda_device() == torch.device("cuda", 1)
    assert chosen == [torch.device("cuda", 1)]


def test_rows_that_cannot_be_shared_are_no_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with pytest.raises(ValueError, match="2 processes cannot share 3 rows"):
        own_rows(torch.zeros(3))


def test_the_batch_sizes_of_a_growing_run_are_those_of_its_steps() -> None:
    growth = GrowthConfig(stabilise_images=4, fade_images=4, batch_sizes={8: 6, 32: 2, 64: 1})
    met = {batch_size_at(growth, 32, images, 7) for images in range(40)}
    assert met == set(batch_sizes(growth, 32, 7)) == {7, 6, 2}


@pytest.mark.parametrize(("model", "preset"), GAN_PRESETS)
def test_a_shared_network_has_the_same_parameters_and_leaves_no_layer_out(
    model: str, preset: str, two_pretended: None
) -> None:
    config = small_gan(model, preset).network
    for build in (build_generator, build_discriminator):
        network = build(config)
        before = network.state_dict(keep_vars=True)
        shared = across_processes(network)
        after = shared.state_dict(keep_vars=True)
        assert list(after) == list(before)
        assert all(after[name] is before[name] for name in before)
        batchwise = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, MinibatchStd)
        for module in shared.modules():
            assert not isinstance(module, batchwise) or isinstance(module, SharedBatchNorm | SharedMinibatchStd)
        assert copy.deepcopy(shared).load_state_dict(before).missing_keys == []


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5, 5)])
@pytest.mark.parametrize("eps", [1e-5, 0.8])
def test_shared_batch_norm_of_one_process_is_batch_norm(
    shape: tuple[int, ...], eps: float, two_pretended: None
) -> None:
    kind = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    plain = kind(3, eps).double()
    nn.init.normal_(plain.weight)
    nn.init.normal_(plain.bias)
    shared = across_processes(nn.Sequential(copy.deepcopy(plain)))[0]  # type: ignore[index]
    for _ in range(3):
        features = torch.randn(shape, dtype=torch.float64) * 3 + 100
        torch.testing.assert_close(shared(features), plain(features))
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(shared.state_dict()[name], value)
    for network in (shared, plain):
        network.eval()
    torch.testing.assert_close(shared(features), plain(features))


def test_the_gradient_of_shared_batch_norm_and_its_gradient_are_right() -> None:
    layer = SharedBatchNorm(2).double()
    features = torch.randn(3, 2, 2, 1, dtype=torch.float64, requires_grad=True)

    def normalised(values: Tensor) -> Tensor:
        output: Tensor = layer(values)
        return output

    assert gradcheck(normalised, features)
    assert gradgradcheck(normalised, features)


def test_shared_batch_norm_in_bf16_keeps_its_statistics_exact() -> None:
    layer = SharedBatchNorm(1)
    features = torch.full((64, 1), 256.0)
    features[0] = 258
    output = layer(features.bfloat16())
    assert output.dtype == torch.bfloat16
    assert layer.running_mean == pytest.approx(0.1 * (256 + 2 / 64))


@pytest.mark.parametrize("whole_maps", [False, True])
def test_shared_dropout_draws_what_dropout_draws(whole_maps: bool) -> None:
    features = torch.randn(5, 4, 3, 3)
    torch.manual_seed(1)
    expected = (nn.Dropout2d if whole_maps else nn.Dropout)(0.3)(features)
    torch.manual_seed(1)
    layer = SharedDropout(0.3, whole_maps=whole_maps)
    torch.testing.assert_close(layer(features), expected)
    assert layer.eval()(features) is features


@pytest.mark.parametrize("rows", [2, 4, 7, 8])
@pytest.mark.parametrize("group_rows", [4, None])
def test_shared_minibatch_statistics_of_one_process_are_the_plain_ones(rows: int, group_rows: int | None) -> None:
    features = torch.randn(rows, 3, 4, 4)
    assert torch.equal(SharedMinibatchStd(group_rows)(features), MinibatchStd(group_rows)(features))
