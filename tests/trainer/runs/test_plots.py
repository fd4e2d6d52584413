from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.utils import make_grid

from tests.trainer.conftest import small_config
from trainer.runs import plots as figures


def test_a_grid_has_eight_columns_two_pixels_apart_and_maps_minus_1_and_1_to_black_and_white() -> None:
    images = torch.stack([torch.full((1, 4, 4), value) for value in [-1.0, 1.0, 0.0] + [-1.0] * 7])
    grid = figures.grid_image(images)
    assert grid.size == (8 * 6 + 2, 2 * 6 + 2)
    assert [grid.getpixel((x, 3)) for x in (3, 9, 15)] == [(0, 0, 0), (255, 255, 255), (128, 128, 128)]


@pytest.mark.parametrize("count", [1, 7, 17])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_is_that_of_torchvision(count: int, channels: int) -> None:
    images = torch.randn(count, channels, 6, 5)
    expected = make_grid(images, nrow=8, normalize=True, value_range=(-1, 1)).mul(255).round().to(torch.uint8)
    assert np.array_equal(np.asarray(figures.grid_image(images)), expected.permute(1, 2, 0).numpy())


def test_the_animation_ends_with_the_last_sample_and_is_thinned(tmp_path: Path) -> None:
    frames = []
    for index in range(150):
        frames.append(tmp_path / f"{index}.png")
        Image.new("L", (8, 8), index).save(frames[-1])
    figures.save_progress_gif(frames, tmp_path / "progress.gif")
    with Image.open(tmp_path / "progress.gif") as animation:
        assert animation.n_frames == figures.GIF_MAX_FRAMES  # type: ignore[attr-defined]
        animation.seek(animation.n_frames - 1)  # type: ignore[attr-defined]
        assert animation.convert("L").getpixel((0, 0)) == pytest.approx(149, abs=2)


def test_five_pictures_side_by_side_take_two_lines_of_four_in_their_own_colours(tmp_path: Path) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)]
    grids = {}
    for number, colour in enumerate(colours):
        grids[f"model {number}"] = tmp_path / f"{number}.png"
        Image.new("RGB", (40, 40), colour).save(grids[f"model {number}"])
    figures.save_side_by_side(grids, tmp_path / "all.png")
    with Image.open(tmp_path / "all.png") as picture:
        for number, colour in enumerate(colours):
            line, column = divmod(number, 4)
            middle = (int((column + 0.5) * picture.width / 4), int((line + 0.55) * picture.height / 2))
            assert picture.convert("RGB").getpixel(middle) == colour


def test_growth_shows_the_last_grid_of_each_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = []
    for number, side in enumerate((4, 4, 8, 16, 16)):
        frames.append(tmp_path / f"step-{number}.png")
        figures.save_image(figures.grid_image(torch.zeros(64, 1, side, side)), frames[-1])
    shown = {}
    monkeypatch.setattr(figures, "save_side_by_side", lambda grids, _path: shown.update(grids))
    figures.save_growth(frames, tmp_path / "growth.png")
    assert shown == {"4x4": frames[1], "8x8": frames[2], "16x16": frames[4]}


def test_without_samples_there_is_no_animation(tmp_path: Path) -> None:
    figures.save_progress_gif([], tmp_path / "progress.gif")
    assert list(tmp_path.iterdir()) == []


def test_grids_of_smaller_images_are_enlarged_to_the_last_one_without_blurring(tmp_path: Path) -> None:
    paths = [tmp_path / f"{size}.png" for size in (2, 4, 8)]
    for path, size in zip(paths, (2, 4, 8), strict=True):
        image = Image.new("L", (size, size), 255)
        image.paste(0, (0, 0, size // 2, size // 2))
        image.save(path)
    figures.save_progress_gif(paths, tmp_path / "progress.gif")
    with Image.open(tmp_path / "progress.gif") as animation:
        # Equal frames are merged: all three are the same picture when enlarged.
        assert animation.size == (8, 8)
        assert animation.n_frames == 1  # type: ignore[attr-defined]
        frame = animation.convert("L")
        assert [frame.getpixel((x, x)) for x in (0, 3, 4, 7)] == [0, 0, 255, 255]


def test_grids_of_large_images_make_an_animation_of_a_bounded_size(tmp_path: Path) -> None:
    for step, side in enumerate((100, 3000)):
        Image.new("RGB", (side, side)).save(tmp_path / f"step-{step}.png")
    figures.save_progress_gif(sorted(tmp_path.glob("step-*.png")), tmp_path / "progress.gif")
    with Image.open(tmp_path / "progress.gif") as animation:
        assert animation.size == (figures.GIF_MAX_SIDE, figures.GIF_MAX_SIDE)


@pytest.mark.parametrize("rows", [0, 1, 5, 300])
def test_curves_are_drawn_for_runs_of_any_length_and_with_missing_generator_losses(tmp_path: Path, rows: int) -> None:
    metrics = [
        {"step": step, "d_loss": 1 / step, "g_loss": 1.0 if step % 5 == 0 else None, "d_real": 0.6, "d_fake": 0.4}
        for step in range(1, rows + 1)
    ]
    config = small_config("wgan-gp", "wgan-gp-digits")
    figures.save_loss_curve(metrics, tmp_path / "loss.png", config)
    figures.save_score_curve(metrics, tmp_path, config)
    parts = [row | {"adversarial_loss": 0.3, "cycle_loss": 0.2, "identity_loss": 0.1} for row in metrics]
    figures.save_cycle_curve(parts, tmp_path / "cycle.png")
    for name in ("loss.png", "score_curve.png", "cycle.png"):
        with Image.open(tmp_path / name) as image:
            assert image.size == (1000, 500)


@pytest.mark.parametrize(
    ("model", "objective", "name"),
    [
        ("gan", "nonsaturating", "confidence_curve.png"),
        ("gan", "hinge", "score_curve.png"),
        ("gan", "relativistic", "score_curve.png"),
        ("wgan", None, "score_curve.png"),
    ],
)
def test_only_probabilities_are_called_confidence(model: str, objective: str | None, name: str, tmp_path: Path) -> None:
    config = small_config(model, f"{model}-digits", **({"objective": objective} if objective else {}))
    figures.save_score_curve([{"step": 1, "d_real": 0.6, "d_fake": 0.4}], tmp_path, config)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def gray_images(count: int, level: float, channels: int = 3, size: int = 32) -> torch.Tensor:
    return torch.full((count, channels, size, size), level)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 5])
def test_four_rows_are_two_pixels_apart_right_of_their_names(count: int, channels: int) -> None:
    figure = figures.four_row_image(*(gray_images(count, level, channels) for level in (-1.0, 1.0, 0.0, -0.5)))
    left = figures.ROW_LABEL_PIXELS
    assert figure.size == (left + count * 34 + 2, 4 * 34 + 2)
    for column in range(count):
        x = left + 2 + column * 34
        assert [figure.getpixel((x, 2 + row * 34)) for row in range(4)] == [(v,) * 3 for v in (0, 255, 128, 64)]
        assert figure.getpixel((x, 34)) == (0, 0, 0)
    for row in range(4):
        label = figure.crop((0, 2 + row * 34, left, 34 + row * 34)).convert("L")
        darkest, lightest = label.getextrema()
        assert (darkest < 64, lightest) == (True, 255)  # type: ignore[operator]


def test_the_four_rows_have_different_labels() -> None:
    figure = figures.four_row_image(*(gray_images(2, 0.0, size=64) for _ in range(4)))
    labels = [figure.crop((0, 2 + row * 66, figures.ROW_LABEL_PIXELS, 66 + row * 66)).tobytes() for row in range(4)]
    assert len(set(labels)) == 4


def test_images_without_a_counterpart_are_left_out_of_the_four_rows() -> None:
    a, b = gray_images(5, 0.0), gray_images(3, 0.0)
    assert figures.four_row_image(a, a, b, b).size == figures.four_row_image(b, b, b, b).size
