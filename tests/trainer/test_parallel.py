"""A process that trains alone, and what torchrun tells one of several. `distributed/` starts several."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout

import pytest
import torch
import torch.distributed as dist
from torch import nn

from trainer import parallel
from trainer.errors import UserError
from trainer.parallel import (
    Launch,
    all_rows,
    any_of_all,
    average_gradients,
    check_shares,
    choose_device,
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
        choose_device("auto")
    assert choose_device("cpu") == torch.device("cpu")


def test_each_process_has_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert own_cuda_device() == torch.device("cuda")
    started_by_torchrun(monkeypatch)
    assert own_cuda_device() == torch.device("cuda", 1)
    assert chosen == [torch.device("cuda", 1)]


def test_rows_that_cannot_be_shared_are_no_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "world_size", lambda: 2)
    with pytest.raises(ValueError, match="2 processes cannot share 3 rows"):
        own_rows(torch.zeros(3))
