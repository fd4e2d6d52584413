"""Figures of a run: sample grids, curves, real beside fake, the progress animation. Knows tensors and rows only."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ganserve.files import replace_file
from ganserve.grids import PADDING, labelled_lines

GRID_COLUMNS = 8
GIF_MAX_FRAMES = 60
GIF_MAX_SIDE = 1024  # pixels; larger grids are reduced
ROW_LABEL_PIXELS = 14  # width of the labels in four_row_image
_SMOOTHING_STEPS = 25


def grid_image(images: Tensor) -> Image.Image:
    """A grid of `GRID_COLUMNS` columns with 2 pixels between images (N, C, H, W) in [-1, 1]."""
    from torchvision.utils import make_grid  # takes seconds to import

    grid = make_grid(images.cpu(), nrow=GRID_COLUMNS, padding=PADDING, normalize=True, value_range=(-1, 1))
    pixels = grid.mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(pixels)


def save_image(image: Image.Image, path: Path) -> None:
    """Writes a PNG atomically."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    replace_file(path, buffer.getvalue())


def save_real_beside_fake(reals: Tensor, fakes: Tensor, path: Path) -> None:
    """Two grids side by side, (N, C, H, W) each in [-1, 1]."""
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    for axes, images, title in zip(figure.subplots(1, 2), (reals, fakes), ("Real images", "Fake images"), strict=True):
        axes.imshow(grid_image(images))
        axes.set_title(title)
        axes.axis("off")
    _save(figure, path)


def save_traversal(images: Tensor, labels: Sequence[str], path: Path) -> None:
    """The traversal sheet: one line of `GRID_COLUMNS` images (N, C, H, W) in [-1, 1] per label."""
    save_image(labelled_lines(grid_image(images), labels), path)


def save_loss_curve(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Generator and discriminator loss per step."""
    curves = {"Generator": "g_loss", "Discriminator": "d_loss"}
    _save_curves(rows, curves, "Generator and discriminator loss during training", "loss", path)


def save_cycle_curve(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """The parts of the translators' loss per step, without their weights."""
    curves = {"adversarial": "adversarial_loss", "cycle": "cycle_loss", "identity": "identity_loss"}
    _save_curves(rows, curves, "Parts of the generators' loss", "loss, mean of both directions", path)


def save_confidence_curve(rows: Sequence[dict[str, Any]], path: Path, *, probabilities: bool) -> None:
    """D(x) and D(G(z)) per step: probabilities for GANs, raw scores for critics."""
    curves = {"D(x), real images": "d_real", "D(G(z)), fakes": "d_fake"}
    unit = "probability of being real" if probabilities else "critic score"
    _save_curves(rows, curves, "Confidence of the discriminator", unit, path)


def save_progress_gif(frames: Sequence[Path], path: Path) -> None:
    """All sample grids as one animation; the last frame stays longest, and long runs are thinned evenly.

    Smaller grids, from before a network grew, are enlarged to the size of the last one by repeating pixels.
    """
    if not frames:
        return
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), GIF_MAX_FRAMES)).round().astype(int))
    with Image.open(frames[-1]) as last:
        shrink = max(1.0, max(last.size) / GIF_MAX_SIDE)
        size = (round(last.width / shrink), round(last.height / shrink))
    images = [_frame(frames[index], size) for index in chosen]
    durations_ms = [1000 if len(images) <= 10 else 200] * (len(images) - 1) + [2000]
    buffer = io.BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=durations_ms, loop=0)
    replace_file(path, buffer.getvalue())


def _frame(path: Path, size: tuple[int, int]) -> Image.Image:
    with Image.open(path) as image:
        enlarge = image.width < size[0]
        resampling = Image.Resampling.NEAREST if enlarge else Image.Resampling.BOX
        whole = image if image.size == size else image.resize(size, resampling)
        return whole.convert("P", palette=Image.Palette.ADAPTIVE)


def _save_curves(rows: Sequence[dict[str, Any]], curves: dict[str, str], title: str, unit: str, path: Path) -> None:
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots()
    for label, key in curves.items():
        points = [(row["step"], row[key]) for row in rows if isinstance(row.get(key), int | float)]
        if not points:
            continue
        steps, values = np.array([step for step, _ in points]), np.array([value for _, value in points])
        (line,) = axes.plot(steps, values, alpha=0.25, linewidth=0.8)
        smooth = _running_mean(values)
        axes.plot(steps[-len(smooth) :], smooth, color=line.get_color(), label=label, linewidth=1.5)
    axes.set_title(title)
    axes.set_xlabel("steps")
    axes.set_ylabel(unit)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    _save(figure, path)


def _running_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    window = min(_SMOOTHING_STEPS, len(values))
    return np.convolve(values, np.ones(window) / window, mode="valid")


def _save(figure: Figure, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    replace_file(path, buffer.getvalue())


def four_row_image(real_a: Tensor, fake_b: Tensor, real_b: Tensor, fake_a: Tensor) -> Image.Image:
    """Test images and their translations: labelled rows real A, fake B (made from it), real B, fake A.

    Takes (N, C, H, W) each in [-1, 1], all of one size; images are 2 pixels apart. The shortest row limits the number
    of columns.
    """
    from torchvision.utils import make_grid

    rows = {"real A": real_a, "fake B": fake_b, "real B": real_b, "fake A": fake_a}
    columns = min(len(images) for images in rows.values())
    images = torch.cat([row[:columns].cpu() for row in rows.values()])
    grid = make_grid(images, nrow=columns, padding=2, normalize=True, value_range=(-1, 1))
    pixels = Image.fromarray(grid.mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy())
    figure = Image.new("RGB", (pixels.width + ROW_LABEL_PIXELS, pixels.height), "white")
    figure.paste(pixels, (ROW_LABEL_PIXELS, 0))
    row_pixels = images.shape[-2] + 2
    for index, name in enumerate(rows):
        label = Image.new("RGB", (row_pixels, ROW_LABEL_PIXELS), "white")
        middle = (row_pixels / 2, ROW_LABEL_PIXELS / 2)
        ImageDraw.Draw(label).text(middle, name, "black", ImageFont.load_default(10), anchor="mm")
        figure.paste(label.transpose(Image.Transpose.ROTATE_90), (0, 1 + index * row_pixels))
    return figure
