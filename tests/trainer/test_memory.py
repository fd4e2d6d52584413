from __future__ import annotations

import numpy as np
import pytest
import torch

from trainer.memory import peak_memory_gb

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


def test_the_peak_of_the_process_never_falls_and_counts_what_it_held() -> None:
    before = peak_memory_gb(CPU)["process_gb"]
    assert 0.01 < before < 1000
    held = np.ones(int(before * 1e9) // 8 + (1 << 24), np.float64)  # more than ever before
    size_gb = held.nbytes / 1e9
    del held
    assert size_gb < peak_memory_gb(CPU)["process_gb"] < size_gb + before + 1


def test_a_gpu_has_its_own_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    def gives(device: torch.device, value: int) -> int:
        assert device == CUDA
        return value

    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: gives(device, 1_500_000_000))
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: gives(device, 2_000_000_000))
    memory = peak_memory_gb(CUDA)
    assert (memory["cuda_allocated_gb"], memory["cuda_reserved_gb"]) == (1.5, 2.0)
    assert set(peak_memory_gb(CPU)) == {"process_gb"}
