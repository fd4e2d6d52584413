"""What the command line of the exporter shows: steps as they run, and what was published. Decides nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from ganserve.bundle import Card, LatentInput

# What to serve a variant with.
_VARIANT_FLAGS: Final[Mapping[str, str]] = {"bf16": "--precision bf16", "fp16": "--precision fp16 --device cuda"}


class Progress:
    """Shows the running step, and prints each finished one with its time."""

    def __init__(self, console: Console, status: Status) -> None:
        self._console = console
        self._status = status
        self._step = ""
        self._began_s = 0.0

    def begin(self, step: str) -> None:
        """Ends the step before, and shows this one."""
        self.end()
        self._step, self._began_s = step, time.monotonic()
        self._status.update(Text(step))

    def end(self) -> None:
        """Prints the running step as finished, with its time if that is worth a word."""
        if self._step:
            took_s = time.monotonic() - self._began_s
            duration = f" ({took_s:.1f} s)" if took_s >= 0.05 else ""
            # One line, and no markup: a refusal quotes the errors of others.
            self._console.print(f"  {self._step}{duration}", highlight=False, markup=False, soft_wrap=True)


def print_summary(published: Sequence[tuple[Path, Card]], models: Path) -> None:
    """Prints each bundle's proof and files, how to serve them, and last their folders, one a line."""
    for folder, card in published:
        _print_parity(card)
        if card.variants:
            _print_fidelity(card)
        size = f"{card.width} x {card.height}"
        if isinstance(card.input, LatentInput):
            taken = f"latents of {card.input.latent_dim}"
        else:
            taken = f"{card.input.width} x {card.input.height} images"
        click.echo(f"{card.name} version {card.version}: {taken} -> {size} images")
        for file_name in card.files:
            click.echo(f"  {file_name}  {(folder / file_name).stat().st_size / 2**20:.2f} MiB")
    for precision, flags in _VARIANT_FLAGS.items():
        if all(precision in card.variants and card.variants[precision].published for _, card in published):
            click.echo(f"In {precision}: python -m server --models {models} {flags}")
    click.echo(f"Serve {'it' if len(published) == 1 else 'them'}: python -m server --models {models}")
    for folder, _ in published:
        click.echo(folder)


def _print_parity(card: Card) -> None:
    table = Table(title="Largest difference from eager PyTorch")
    for heading in ("rows", "TorchScript images", "ONNX images", "TorchScript pixels", "ONNX pixels"):
        table.add_column(heading, justify="right")
    for figure in card.parity:
        table.add_row(
            str(figure.rows),
            f"{figure.torchscript_images:.1e}",
            f"{figure.onnx_images:.1e}",
            str(figure.torchscript_pixels),
            str(figure.onnx_pixels),
        )
    Console().print(table)


def _print_fidelity(card: Card) -> None:
    table = Table(title="Pixels in reduced precision against float32")
    for heading in ("precision", "images", "within one level", "PSNR dB", "largest difference", "published"):
        table.add_column(heading, justify="right")
    for precision, fidelity in card.variants.items():
        table.add_row(
            precision,
            str(fidelity.images),
            f"{fidelity.within_one_level:.3%}",
            f"{fidelity.psnr_db:.1f}",
            str(fidelity.largest_level_difference),
            "yes" if fidelity.published else "no",
        )
    Console().print(table)
