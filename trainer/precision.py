"""How exactly a step is computed: in fp32, or with bfloat16 inside the layers that gain by it.

Weights, averages, optimiser moments, losses and samples are fp32 either way. bfloat16 has the range of fp32, so losses
need no scaling.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from trainer.errors import UserError

Precision = Literal["fp32", "bf16"]
_CPU_INFO = Path("/proc/cpuinfo")  # on Linux
_CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # on x86-64, and on 64-bit ARM


def choose_precision(name: str, device: torch.device, *, gains: bool) -> Precision:
    """What --precision means on a device.

    Args:
        name: "auto", "fp32" or "bf16".
        device: that trains.
        gains: whether bf16 makes this network faster where the device has instructions for it.

    Raises:
        UserError: there is no such precision.
    """
    if name == "fp32":
        return "fp32"
    if name == "bf16":
        return "bf16"
    if name != "auto":
        raise UserError(f"--precision {name!r}: choose one of auto, fp32, bf16")
    return "bf16" if gains and has_bf16(device) else "fp32"


def has_bf16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16; without them it is slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        lines = _CPU_INFO.read_text().splitlines()
    except OSError:  # another system: nothing says so there
        return False
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return bool(_CPU_FLAGS & set(flags.split()))


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Computes what is called within it at that precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
