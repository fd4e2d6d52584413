"""The memory of this process, for the user."""

from __future__ import annotations

import resource
import sys

import torch


def peak_memory_gb(device: torch.device) -> dict[str, float]:
    """The most memory so far, in GB (10^9 bytes), by name.

    `process_gb` is what the operating system counts for this process (resident set size). On CUDA there are also
    `cuda_allocated_gb`, the tensors on the device, and `cuda_reserved_gb`, which includes what PyTorch keeps for later.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory = {"process_gb": peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9}
    if device.type == "cuda":
        memory["cuda_allocated_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
        memory["cuda_reserved_gb"] = torch.cuda.max_memory_reserved(device) / 1e9
    return memory
