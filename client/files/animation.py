"""Writes moving pictures, GIF and MP4, frame by frame. Knows no server."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from client.errors import UnwritableOutput
from client.files.images import check_output_file, write_whole
from ganserve.grids import to_pil

SUFFIXES: Final = (".gif", ".mp4")
MAX_FRAMES_A_SECOND: Final = {".gif": 50, ".mp4": 60}  # GIF counts in hundredths, and players slow down below two

Frames: TypeAlias = Iterable[NDArray[np.uint8]]

_COLOURS: Final = 256  # the most that a GIF frame can have
_MS_A_HUNDREDTH: Final = 10
_X264: Final = {"crf": "18"}  # a loss that few would see


def is_animation_name(path: Path) -> bool:
    """Whether the extension is that of a moving picture which `save_animation` can write."""
    return path.suffix.lower() in SUFFIXES


def check_animation(path: Path) -> None:
    """Finds out before any work is done whether `save_animation` can write there; writes nothing.

    Raises:
        UnwritableOutput: it cannot.
    """
    if not is_animation_name(path):
        raise UnwritableOutput(f"{path}: has no known extension of an animation; use one of {', '.join(SUFFIXES)}")
    if path.suffix.lower() == ".mp4" and importlib.util.find_spec("av") is None:
        raise UnwritableOutput(f"{path}: MP4 needs PyAV; pip install 'ganserve[video]', or name a .gif file")
    check_output_file(path)


def save_animation(frames: Frames, path: Path, frames_a_second: int) -> None:
    """Writes a moving picture in the format that the extension names; a GIF starts over for ever.

    A GIF frame has a palette of its own, of the 256 colours that suit it best; gray frames are exact. An MP4 is H.264
    with yuv420p colours, which browsers play; frames with odd sides are one pixel larger there. Transparent frames are
    laid on black in both.

    Args:
        frames: uint8 (height, width, channels) each, with 1 to 4 channels, all of one shape; at least one. Taken one
            by one as they are written; a GIF keeps them in memory with one byte a pixel.
        path: where to; appears by one rename when it is whole, and its folder is made if there is none.
        frames_a_second: 1 or more; GIF rounds each frame's end to hundredths of a second.

    Raises:
        UnwritableOutput: it cannot be written; nothing is left behind. What `frames` raises passes through.
    """
    check_animation(path)
    write = _write_gif if path.suffix.lower() == ".gif" else _write_mp4
    write_whole(path, lambda temporary: write(frames, temporary, frames_a_second))


def _write_gif(frames: Frames, path: Path, frames_a_second: int) -> None:
    pictures = (
        _for_gif(frame, _hundredths(index, frames_a_second) * _MS_A_HUNDREDTH) for index, frame in enumerate(frames)
    )
    next(pictures).save(path, format="GIF", save_all=True, append_images=pictures, loop=0)


def _for_gif(frame: NDArray[np.uint8], duration_ms: int) -> Image.Image:
    picture = _opaque(frame)
    if picture.mode == "RGB":
        # Without dithering, whose dots would flicker from frame to frame.
        picture = picture.quantize(_COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    picture.info["duration"] = duration_ms  # where Pillow looks for that of each frame
    return picture


def _hundredths(index: int, frames_a_second: int) -> int:
    """How long a frame is shown, so that its end, not its length, is what is rounded: no error adds up."""
    return round(100 * (index + 1) / frames_a_second) - round(100 * index / frames_a_second)


def _write_mp4(frames: Frames, path: Path, frames_a_second: int) -> None:
    import av
    from av.video.stream import VideoStream

    try:
        with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as file:
            stream: VideoStream | None = None
            for frame in frames:
                picture = _with_even_sides(np.asarray(_opaque(frame).convert("RGB")))
                if stream is None:
                    stream = file.add_stream("libx264", rate=frames_a_second, options=_X264)
                    stream.height, stream.width = picture.shape[:2]
                    stream.pix_fmt = "yuv420p"
                file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            if stream is not None:
                file.mux(stream.encode(None))
    except av.FFmpegError as error:
        raise ValueError(f"the video encoder says: {error.strerror}") from error


def _with_even_sides(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(height, width, 3) with the last line and column again where a side is odd: colours are stored for 2x2 pixels."""
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _opaque(frame: NDArray[np.uint8]) -> Image.Image:
    """A frame as mode L or RGB, on black."""
    picture = to_pil(frame)
    if picture.mode in ("L", "RGB"):
        return picture
    on_black = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture.convert("RGBA"))
    return on_black.convert(picture.mode[:-1])
