"""Precision of a step: fp32, or bfloat16 inside the layers that gain from it.

Weights, averages, optimiser moments, losses and samples are always fp32. bfloat16 has the range of fp32, so losses need
no scaling.
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
    """The precision that --precision chooses on a device.

    Args:
        name: "auto", "fp32" or "bf16".
        device: to train on.
        gains: whether bf16 makes this network faster on a device that has instructions for it.

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
    except OSError:  # not Linux
        return False
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return bool(_CPU_FLAGS & set(flags.split()))


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """The context in which layers compute at this precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
