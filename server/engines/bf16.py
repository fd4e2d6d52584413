"""Instances that compute large batches in bfloat16 with PyTorch on the CPU, one per narrow instance.

Small batches stay in float32, where ONNX Runtime is faster.
"""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path
from typing import Final

from ganserve.bundle import Card
from server.config import ServerConfig
from server.engines.layouts import Layout, automatic_layout
from server.engines.loading import batch_rows, failures_as_bundle_errors, load_group, within_load_timeout
from server.scheduling.instances import Instance, close_instances

LARGE_ROWS: Final = 4  # rows of the smallest batch that is computed in bfloat16


def bf16_layout(layout: Layout) -> Layout:
    """The bfloat16 counterpart of a layout, with as many engines and threads."""
    return Layout("torchscript", "bf16", layout.engines, layout.threads)


def has_bf16(card: Card) -> bool:
    """Whether the version was exported with a bfloat16 variant and PyTorch is installed to run it."""
    variant = card.variants.get("bf16")
    return variant is not None and variant.published and importlib.util.find_spec("torch") is not None


@failures_as_bundle_errors()
def load_bf16_instances(folder: Path, card: Card, config: ServerConfig) -> list[Instance]:
    """Loads and warms up one instance per narrow instance of `load_instances`; takes seconds.

    Raises:
        BundleError: the version is broken or has no bfloat16 variant, or takes longer than the load timeout.
        StartupError: PyTorch is not installed.
    """
    layout = bf16_layout(automatic_layout(config.usable_cores, config.engines))
    max_rows = batch_rows(card, config)
    load = partial(load_group, folder, card, layout, "bf16", max_rows, warm_rows=max_rows)
    return within_load_timeout(config, folder, load, close_instances)
