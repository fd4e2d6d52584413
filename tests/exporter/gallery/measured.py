"""Takes the gallery from saved weights to served pixels, and compares them with eager PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from torch import nn

from client import GanClient
from exporter.__main__ import main
from ganserve.bundle import ImageInput, example_rows
from tests.end_to_end.conftest import running_server
from tests.exporter.gallery.entries import GALLERY, Entry

ROWS: Final = 40
_SEED: Final = 11


@dataclass(frozen=True)
class Compared:
    """The served pixels of one network, uint8 (rows, H, W, C), and the levels 0 .. 255 of eager PyTorch, unrounded."""

    served: NDArray[np.uint8]
    levels: NDArray[np.float64]

    @property
    def differences(self) -> NDArray[np.float64]:
        """From the rounded levels, in grey levels."""
        return np.abs(self.served - np.rint(self.levels))

    @property
    def largest_difference(self) -> int:
        """In grey levels."""
        return int(self.differences.max())


def export_entry(name: str, folder: Path, models: Path) -> nn.Module:
    """Exports one network from a file of weights, by the command line; returns the network.

    Raises:
        AssertionError: The exporter failed; with its output.
    """
    entry = GALLERY[name]
    network = entry.build()
    weights = entry.save(network, folder)
    flags = ["--module", entry.spec, "--weights", str(weights), "--name", name, "--models", str(models), *entry.flags]
    result = CliRunner().invoke(main, flags)
    assert result.exit_code == 0, f"{name}: {result.output}"
    return network


@contextmanager
def served_gallery(folder: Path) -> Iterator[tuple[GanClient, dict[str, nn.Module]]]:
    """Exports all networks and serves them from one server; yields its client, and the networks by name."""
    models = folder / "models"
    networks = {}
    for name in GALLERY:
        (folder / name).mkdir()
        networks[name] = export_entry(name, folder / name, models)
    with running_server(models) as server, GanClient(server.address) as client:
        yield client, networks


def compare(name: str, client: GanClient, network: nn.Module) -> Compared:
    """Fetches the pixels of random rows, and computes them with eager PyTorch."""
    entry = GALLERY[name]
    low, high = entry.value_range
    rows = example_rows(entry.row_input, _SEED, ROWS)
    if isinstance(entry.row_input, ImageInput):
        served = client.translate(name, rows)
        inputs = torch.from_numpy(rows).permute(0, 3, 1, 2) / 255 * (high - low) + low
    else:
        served = client.generate(name, latents=rows)
        inputs = torch.from_numpy(rows)
    return Compared(np.asarray(served), eager_levels(entry, network, inputs))


def eager_levels(entry: Entry, network: nn.Module, inputs: torch.Tensor) -> NDArray[np.float64]:
    """What the author of the network sees, as grey levels (rows, H, W, C)."""
    low, high = entry.value_range
    with torch.no_grad():
        images = entry.eager(network, inputs).double().numpy()
    return ((images - low) / (high - low) * 255).clip(0, 255).transpose(0, 2, 3, 1)
