from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from client.errors import ServerBusy, UnwritableOutput
from client.files.animation import (
    animation_bytes,
    animation_scale,
    available_formats,
    check_animation,
    is_animation_name,
    save_animation,
)

needs_av = pytest.mark.skipif(importlib.util.find_spec("av") is None, reason="PyAV is not installed")


def moving_frames(count: int, height: int, width: int, channels: int) -> list[NDArray[np.uint8]]:
    """Smooth pictures that all differ, with few colours, so that palettes are lossless."""
    ramp = np.linspace(40, 200, width).astype(int)[np.newaxis, :, np.newaxis]
    shades = np.arange(channels) * 10
    return [
        np.broadcast_to(ramp + 3 * index + shades, (height, width, channels)).astype(np.uint8) for index in range(count)
    ]


def frames_of_gif(path: Path) -> tuple[list[NDArray[np.uint8]], list[int]]:
    with Image.open(path) as file:
        pictures = [
            (np.asarray(frame.convert("RGB")), frame.info["duration"]) for frame in ImageSequence.Iterator(file)
        ]
        assert file.info["loop"] == 0
    return [picture for picture, _ in pictures], [duration for _, duration in pictures]


def frames_of_mp4(path: Path) -> tuple[list[NDArray[np.uint8]], Any]:
    import av

    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        facts = (stream.codec_context.name, stream.codec_context.pix_fmt, stream.average_rate)
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in file.decode(stream)], facts


@pytest.mark.parametrize("channels", [1, 3])
def test_a_gif_has_every_frame_with_its_colours(tmp_path: Path, channels: int) -> None:
    frames = moving_frames(5, 9, 7, channels)
    save_animation(iter(frames), tmp_path / "new" / "a.gif", 20)
    shown, durations = frames_of_gif(tmp_path / "new" / "a.gif")
    assert durations == [50] * 5
    for frame, picture in zip(frames, shown, strict=True):
        np.testing.assert_array_equal(picture, np.broadcast_to(frame, (9, 7, 3)))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.gif"]


@pytest.mark.parametrize("frames_per_second", [1, 3, 7, 24, 30, 50])
def test_a_gif_keeps_the_frame_rate_despite_rounding_to_hundredths(tmp_path: Path, frames_per_second: int) -> None:
    save_animation(moving_frames(29, 2, 2, 1), tmp_path / "a.gif", frames_per_second)
    durations = frames_of_gif(tmp_path / "a.gif")[1]
    assert len(durations) == 29
    assert abs(sum(durations) - 29_000 / frames_per_second) <= 5
    assert max(durations) - min(durations) <= 10


def test_frames_with_more_colours_than_a_palette_stay_close(tmp_path: Path) -> None:
    frames = list(np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8))
    save_animation(frames, tmp_path / "a.gif", 10)
    for frame, picture in zip(frames, frames_of_gif(tmp_path / "a.gif")[0], strict=True):
        assert np.abs(frame.astype(int) - picture).mean() < 16


@needs_av
@pytest.mark.parametrize(("height", "width"), [(64, 64), (33, 47), (16, 28)])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_mp4_is_h264_as_browsers_play_it(tmp_path: Path, height: int, width: int, channels: int) -> None:
    frames = moving_frames(7, height, width, channels)
    save_animation(iter(frames), tmp_path / "a.mp4", 12)
    shown, facts = frames_of_mp4(tmp_path / "a.mp4")
    assert facts == ("h264", "yuv420p", 12)
    assert len(shown) == 7
    for frame, picture in zip(frames, shown, strict=True):
        assert picture.shape == (height + height % 2, width + width % 2, 3)
        assert np.abs(picture[:height, :width].astype(int) - frame).mean() < 6
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # playback starts before the file is loaded completely
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("channels", [2, 4])
def test_transparent_pixels_become_black(tmp_path: Path, channels: int) -> None:
    frames = [np.full((2, 2, channels), 200, np.uint8) for _ in range(2)]
    frames[0][..., -1], frames[1][..., -1] = 0, 255
    save_animation(frames, tmp_path / "a.gif", 10)
    hidden, seen = frames_of_gif(tmp_path / "a.gif")[0]
    assert not hidden.any()
    assert (seen == 200).all()


@pytest.mark.parametrize("name", ["a.gif", pytest.param("a.mp4", marks=needs_av)])
def test_an_error_of_the_frames_passes_through_and_keeps_the_old_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"old")

    def frames() -> Iterator[NDArray[np.uint8]]:
        yield from moving_frames(3, 16, 16, 3)
        raise ServerBusy("come again")

    with pytest.raises(ServerBusy, match="come again"):
        save_animation(frames(), tmp_path / name, 10)
    assert (tmp_path / name).read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == [name]


@needs_av
def test_an_encoder_error_is_a_one_line_error(tmp_path: Path) -> None:
    frames = [np.zeros((2, 20_000, 1), np.uint8)]
    with pytest.raises(UnwritableOutput, match=r"a\.mp4: cannot be written \(the video encoder failed: ") as caught:
        save_animation(frames, tmp_path / "a.mp4", 10)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_without_pyav_an_mp4_is_refused_up_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnwritableOutput, match=r"a\.mp4: MP4 needs PyAV; pip install 'ganserve\[video\]'"):
        check_animation(tmp_path / "a.mp4")
    check_animation(tmp_path / "a.gif")


def test_unknown_extensions_and_unwritable_paths_are_refused_up_front(tmp_path: Path) -> None:
    assert [name for name in ("a.gif", "a.MP4", "a.png", "gif") if is_animation_name(Path(name))] == ["a.gif", "a.MP4"]
    with pytest.raises(UnwritableOutput, match=r"a\.avi: has no known animation extension; use one of"):
        check_animation(tmp_path / "a.avi")
    (tmp_path / "folder.gif").mkdir()
    with pytest.raises(UnwritableOutput, match="is a folder"):
        check_animation(tmp_path / "folder.gif")


def test_the_bytes_are_those_of_the_file(tmp_path: Path) -> None:
    frames = moving_frames(3, 4, 5, 1)
    save_animation(frames, tmp_path / "a.gif", 20)
    assert animation_bytes(frames, ".gif", 20) == (tmp_path / "a.gif").read_bytes()


@pytest.mark.parametrize(("size", "scale"), [((32, 28), 8), ((100, 9), 3), ((256, 1), 1), ((9, 400), 1)])
def test_small_animations_are_magnified_to_at_least_256_pixels(size: tuple[int, int], scale: int) -> None:
    assert animation_scale(*size) == scale


def test_mp4_is_offered_only_with_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert available_formats() == ["GIF"]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert available_formats() == ["GIF", "MP4"]
