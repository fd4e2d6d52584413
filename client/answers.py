"""What answers are read as: arrays or files. Knows no requests."""

from __future__ import annotations

from typing import Protocol, TypeVar

from client.chunks import Chunk, EncodedChunk
from client.errors import ServerFault
from client.wire import AnyFormat, FileFormat, PixelFormat, Response, files_from, images_from

_Read = TypeVar("_Read", covariant=True)  # noqa: PLC0105  (a name for what it is)


class Reader(Protocol[_Read]):
    """Turns (rows, answer) into what the caller wants."""

    @property
    def format(self) -> AnyFormat:
        """What to ask for."""

    def __call__(self, count: int, response: Response) -> _Read:
        """What an answer for `count` rows holds."""


class Arrays:
    """Turns (rows, answer) into arrays, which are of one shape."""

    def __init__(self, image_format: PixelFormat) -> None:
        self.format: PixelFormat = image_format
        self._shape: tuple[int, ...] = ()

    def __call__(self, count: int, response: Response) -> Chunk:
        """The images of an answer.

        Raises:
            ServerFault: it holds anything else, or images of another shape than the last.
        """
        images = images_from(response, count, self.format)
        if self._shape and images.shape[1:] != self._shape:
            raise ServerFault(f"the server's answers disagree: images of shape {self._shape}, then {images.shape[1:]}")
        self._shape = images.shape[1:]
        return Chunk(response.model, response.version, images)


class Files:
    """Turns (rows, answer) into PNG or JPEG files."""

    def __init__(self, file_format: FileFormat) -> None:
        self.format: FileFormat = file_format

    def __call__(self, count: int, response: Response) -> EncodedChunk:
        """The files of an answer.

        Raises:
            ServerFault: it holds anything else.
        """
        return EncodedChunk(response.model, response.version, files_from(response, count, self.format))
