"""Figures of a run, from tensors and rows: sample grids, curves, real next to fake images, the progress animation."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ganserve.files import replace_file
from ganserve.grids import PADDING, image_grid, labelled_lines
from trainer.config import AnyConfig
from trainer.runs import charts

GRID_COLUMNS = 8
SIDE_BY_SIDE_COLUMNS = 4
GIF_MAX_FRAMES = 60
GIF_MAX_SIDE = 1024  # pixels; larger grids are made smaller
ROW_LABEL_PIXELS = 14  # width of the names left of four_row_image


def grid_image(images: Tensor, columns: int = GRID_COLUMNS) -> Image.Image:
    """An RGB grid with 2 pixels between images (N, 1 or 3, H, W) in [-1, 1]."""
    pixels = images.cpu().clamp(-1, 1).add(1).div(2).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return image_grid(pixels.expand(-1, -1, -1, 3).numpy(), columns)


def save_image(image: Image.Image, path: Path) -> None:
    """Writes a PNG atomically."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    replace_file(path, buffer.getvalue())


def save_real_beside_fake(reals: Tensor, fakes: Tensor, path: Path) -> None:
    """Two grids side by side, (N, C, H, W) each in [-1, 1]."""
    figure = charts.new_figure(12, 6.4)
    for axes, images, title in zip(figure.subplots(1, 2), (reals, fakes), ("Real images", "Fake images"), strict=True):
        axes.imshow(grid_image(images))
        axes.set_title(title)
        axes.axis("off")
    replace_file(path, charts.png(figure))


def save_side_by_side(grids: Mapping[str, Path], path: Path) -> None:
    """Pictures from files next to each other, four in a line, each under its title."""
    lines = -(-len(grids) // SIDE_BY_SIDE_COLUMNS)
    figure = charts.new_figure(3 * SIDE_BY_SIDE_COLUMNS, 3.3 * lines)
    panels = list(figure.subplots(lines, SIDE_BY_SIDE_COLUMNS, squeeze=False).flat)
    for axes in panels:
        axes.axis("off")
    for axes, (title, file) in zip(panels, grids.items(), strict=False):
        with Image.open(file) as grid:
            axes.imshow(grid.convert("RGB"))
        axes.set_title(title)
    replace_file(path, charts.png(figure))


def save_growth(frames: Sequence[Path], path: Path) -> None:
    """The last sample grid of each image size, side by side; `frames` are in the order of training."""
    grids = {}
    for frame in frames:
        with Image.open(frame) as grid:
            side = (grid.width - PADDING) // GRID_COLUMNS - PADDING
        grids[f"{side}x{side}"] = frame
    save_side_by_side(grids, path)


def save_traversal(images: Tensor, labels: Sequence[str], path: Path) -> None:
    """The traversal sheet: one line of `GRID_COLUMNS` images (N, C, H, W) in [-1, 1] per label."""
    save_image(labelled_lines(grid_image(images), labels), path)


def save_loss_curve(rows: Sequence[dict[str, Any]], path: Path, config: AnyConfig) -> None:
    """The losses of both networks per step."""
    _save_chart(rows, charts.losses(config), path)


def save_cycle_curve(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """The parts of a translator's loss per step, without their weights."""
    _save_chart(rows, charts.LOSS_PARTS, path)


def save_score_curve(rows: Sequence[dict[str, Any]], folder: Path, config: AnyConfig) -> None:
    """D(x) and D(G(z)) per step: confidence_curve.png if they are probabilities, else score_curve.png."""
    name = "confidence" if config.scores_are_probabilities else "score"
    _save_chart(rows, charts.scores(config), folder / f"{name}_curve.png")


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
        resized = image if image.size == size else image.resize(size, resampling)
        return resized.convert("P", palette=Image.Palette.ADAPTIVE)


def _save_chart(rows: Sequence[dict[str, Any]], chart: charts.StepChart, path: Path) -> None:
    series = {label: [_curve(rows, key)] for label, key in chart.keys.items()}
    figure = charts.step_chart(series, y_label=chart.y_label, title=chart.title, size=(10, 5))
    replace_file(path, charts.png(figure))


def _curve(rows: Sequence[dict[str, Any]], key: str) -> charts.Curve:
    if key == charts.SCORE_DIFFERENCE:
        return charts.difference(_curve(rows, "d_real"), _curve(rows, "d_fake"))
    points = [(row["step"], row[key]) for row in rows if isinstance(row.get(key), int | float)]
    steps, values = np.array(points, float).reshape(-1, 2).T
    return charts.Curve(steps, values)


def four_row_image(real_a: Tensor, fake_b: Tensor, real_b: Tensor, fake_a: Tensor) -> Image.Image:
    """Test images and their translations: labelled rows real A, fake B (made from it), real B, fake A.

    Takes (N, C, H, W) each in [-1, 1], all of one size; images are 2 pixels apart. The shortest row limits the number
    of columns.
    """
    rows = {"real A": real_a, "fake B": fake_b, "real B": real_b, "fake A": fake_a}
    columns = min(len(images) for images in rows.values())
    images = torch.cat([row[:columns].cpu() for row in rows.values()])
    pixels = grid_image(images, columns)
    figure = Image.new("RGB", (pixels.width + ROW_LABEL_PIXELS, pixels.height), "white")
    figure.paste(pixels, (ROW_LABEL_PIXELS, 0))
    row_pixels = images.shape[-2] + PADDING
    for index, name in enumerate(rows):
        label = Image.new("RGB", (row_pixels, ROW_LABEL_PIXELS), "white")
        middle = (row_pixels / 2, ROW_LABEL_PIXELS / 2)
        ImageDraw.Draw(label).text(middle, name, "black", ImageFont.load_default(10), anchor="mm")
        figure.paste(label.transpose(Image.Transpose.ROTATE_90), (0, 1 + index * row_pixels))
    return figure
