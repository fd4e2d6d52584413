from __future__ import annotations

import os

import pytest
import torch

from trainer.training.determinism import deterministic

VARIABLE = "CUBLAS_WORKSPACE_CONFIG"


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")  # so that it is put back as it was
    del os.environ[VARIABLE]
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)


def settings() -> tuple[bool, bool, str | None]:
    return torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark, os.environ.get(VARIABLE)


def test_a_training_on_cuda_repeats_its_bits_if_wanted_and_leaves_no_trace() -> None:
    with deterministic(torch.device("cuda"), wanted=True):
        assert settings() == (True, False, ":4096:8")
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert settings()[:2] == (False, True)


def test_it_is_put_back_after_an_error_too() -> None:
    with pytest.raises(KeyError), deterministic(torch.device("cuda", 1), wanted=True):
        raise KeyError
    assert settings()[:2] == (False, True)


def test_what_the_user_has_set_for_cublas_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, ":16:8")
    with deterministic(torch.device("cuda"), wanted=True):
        assert settings() == (True, False, ":16:8")


@pytest.mark.parametrize(("device", "wanted"), [("cuda", False), ("cpu", True), ("cpu", False)])
def test_nothing_is_changed_where_it_is_not_wanted_or_needed(device: str, wanted: bool) -> None:
    with deterministic(torch.device(device), wanted=wanted):
        assert settings() == (False, True, None)
