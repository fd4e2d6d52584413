"""Writes animations, GIF and MP4, frame by frame."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from client.errors import UnwritableOutput
from client.files.images import check_output_file, write_atomically
from ganserve.grids import to_pil

SUFFIXES: Final = (".gif", ".mp4")
MAX_FRAMES_PER_SECOND: Final = {".gif": 50, ".mp4": 60}  # players slow down a GIF below 2/100 s per frame

Frames: TypeAlias = Iterable[NDArray[np.uint8]]

MIN_ANIMATION_SIDE: Final = 256  # pixels; smaller animations are magnified to at least this
_COLOURS: Final = 256  # the most in a GIF frame
_MS_PER_HUNDREDTH: Final = 10
_X264: Final = {"crf": "18"}  # visually almost lossless


def is_animation_name(path: Path) -> bool:
    """Whether `save_animation` can write a file with this extension."""
    return path.suffix.lower() in SUFFIXES


def check_animation(path: Path) -> None:
    """Checks, before any work is done, that `save_animation` can write to `path`; writes nothing.

    Raises:
        UnwritableOutput: It cannot.
    """
    if not is_animation_name(path):
        raise UnwritableOutput(f"{path}: has no known animation extension; use one of {', '.join(SUFFIXES)}")
    if path.suffix.lower() == ".mp4" and importlib.util.find_spec("av") is None:
        raise UnwritableOutput(f"{path}: MP4 needs PyAV; pip install 'ganserve[video]', or name a .gif file")
    check_output_file(path)


def available_formats() -> list[str]:
    """The formats that can be written here, "GIF" first; "MP4" needs PyAV."""
    return ["GIF"] if importlib.util.find_spec("av") is None else ["GIF", "MP4"]


def animation_scale(width: int, height: int) -> int:
    """The smallest factor that makes the longer side at least 256 pixels."""
    return -(-MIN_ANIMATION_SIDE // max(width, height))


def animation_bytes(frames: Frames, suffix: str, frames_per_second: int) -> bytes:
    """The content of the file that `save_animation` would write; arguments and errors are those of that."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"animation{suffix}"
        save_animation(frames, path, frames_per_second)
        return path.read_bytes()


def save_animation(frames: Frames, path: Path, frames_per_second: int) -> None:
    """Writes an animation in the format of its extension; a GIF loops forever.

    Each GIF frame has its own palette of the 256 best colours; gray frames are exact. An MP4 is H.264 with yuv420p
    colours, which browsers play; frames with odd sides grow by one pixel. Transparent pixels are blended with black.

    Args:
        frames: At least one, each uint8 (height, width, channels) with 1 to 4 channels, all of one shape. They are
            consumed as they are written; a GIF keeps them in memory with one byte per pixel.
        path: The output, replaced atomically. Its folder is created if needed.
        frames_per_second: At least 1; a GIF rounds the end of each frame to hundredths of a second.

    Raises:
        UnwritableOutput: The file cannot be written; nothing is left behind. Errors of `frames` pass through.
    """
    check_animation(path)
    write = _write_gif if path.suffix.lower() == ".gif" else _write_mp4
    write_atomically(path, lambda temporary: write(frames, temporary, frames_per_second))


def _write_gif(frames: Frames, path: Path, frames_per_second: int) -> None:
    pictures = (
        _for_gif(frame, _hundredths(index, frames_per_second) * _MS_PER_HUNDREDTH) for index, frame in enumerate(frames)
    )
    next(pictures).save(path, format="GIF", save_all=True, append_images=pictures, loop=0)


def _for_gif(frame: NDArray[np.uint8], duration_ms: int) -> Image.Image:
    picture = _opaque(frame)
    if picture.mode == "RGB":
        # Dithering would flicker from frame to frame.
        picture = picture.quantize(_COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    picture.info["duration"] = duration_ms  # Pillow reads the duration of each frame here
    return picture


def _hundredths(index: int, frames_per_second: int) -> int:
    """How long a frame is shown. Rounds its end, not its length, so that errors do not accumulate."""
    return round(100 * (index + 1) / frames_per_second) - round(100 * index / frames_per_second)


def _write_mp4(frames: Frames, path: Path, frames_per_second: int) -> None:
    import av
    from av.video.stream import VideoStream

    try:
        with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as file:
            stream: VideoStream | None = None
            for frame in frames:
                picture = _with_even_sides(np.asarray(_opaque(frame).convert("RGB")))
                if stream is None:
                    stream = file.add_stream("libx264", rate=frames_per_second, options=_X264)
                    stream.height, stream.width = picture.shape[:2]
                    stream.pix_fmt = "yuv420p"
                file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            if stream is not None:
                file.mux(stream.encode(None))
    except av.FFmpegError as error:
        raise ValueError(f"the video encoder failed: {error.strerror}") from error


def _with_even_sides(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeats the last row or column where a side is odd: yuv420p stores colours per 2x2 pixels."""
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _opaque(frame: NDArray[np.uint8]) -> Image.Image:
    """The frame in mode L or RGB, blended with black."""
    picture = to_pil(frame)
    if picture.mode in ("L", "RGB"):
        return picture
    on_black = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture.convert("RGBA"))
    return on_black.convert(picture.mode[:-1])
