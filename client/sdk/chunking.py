"""Splits a call into requests by rows, by bytes, and by the server's speed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from numpy.typing import NDArray

from client.sdk.input_images import MAX_REQUEST_IMAGE_BYTES
from client.sdk.model_info import ModelInfo

MAX_CHUNK_ROWS: Final = 256
MAX_CHUNK_BYTES: Final = 64 << 20  # of images in one response; servers have a limit, too

_FIRST_ROWS: Final = 4
_FRAMING_PART: Final = 32  # 1/32 of a request is reserved for the framing of its rows
_COMFORTABLE_S: Final = 2.0  # per request: progress is visible, and deadlines are far away

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Chunk:
    """The images of one request, as an array."""

    model: str
    version: int
    images: NDArray[Any]


@dataclass(frozen=True)
class EncodedChunk:
    """The images of one request, as PNG or JPEG files."""

    model: str
    version: int
    files: list[bytes]


class Pace:
    """Adapts the number of rows per request to the duration of recent requests.

    Image-to-image models are up to a thousand times faster on a GPU than on a CPU: one fixed size would miss the
    deadline on the CPU or leave the GPU idle.

    Args:
        max_rows: The most rows of a request.
        timeout_s: The deadline of a request, in seconds; a request should take at most a quarter of it.
    """

    def __init__(self, max_rows: int, timeout_s: float) -> None:
        self._max_rows = max_rows
        self._target_s = min(_COMFORTABLE_S, timeout_s / 4)
        self.rows = min(_FIRST_ROWS, max_rows)

    def answered(self, rows: int, took_s: float) -> None:
        """Notes that a request of `rows` rows was answered after `took_s` seconds."""
        if took_s > self._target_s:
            self.rows = max(1, self.rows // 2)
        elif rows >= self.rows and took_s < self._target_s / 2:
            self.rows = min(self._max_rows, 2 * self.rows)

    def missed(self, rows: int) -> None:
        """Notes that a request of `rows` rows missed its deadline."""
        self.rows = max(1, min(self.rows, rows // 2))

    def refused(self) -> None:
        """Notes that a request was refused: more bad rows may follow, and each fails its entire chunk."""
        self.rows = max(1, self.rows // 2)


def chunks_of(
    items: Iterable[_Item], item_bytes: Callable[[_Item], int], max_rows: Callable[[], int], max_bytes: int
) -> Iterator[list[_Item]]:
    """Splits `items` into lists, in order; holds at most one list and one item at a time.

    Args:
        items: The items to split; may be endless.
        item_bytes: The size of one item.
        max_rows: The most items of a list; called again for each item.
        max_bytes: The most bytes of a list; a larger item is a list of its own.
    """
    chunk: list[_Item] = []
    chunk_bytes = 0
    for item in items:
        size = item_bytes(item)
        if chunk and chunk_bytes + size > max_bytes:
            yield chunk
            chunk, chunk_bytes = [], 0
        chunk.append(item)
        chunk_bytes += size
        if len(chunk) >= max_rows():
            yield chunk
            chunk, chunk_bytes = [], 0
    if chunk:
        yield chunk


def max_chunk_rows(model: ModelInfo, image_format: str) -> int:
    """The most rows of one request for images in `image_format`; files count as their pixels."""
    value_bytes = 4 if image_format == "float32" else 1
    image_bytes = model.channels * model.height * model.width * value_bytes
    return min(MAX_CHUNK_ROWS, model.max_request_rows or MAX_CHUNK_ROWS, max(1, MAX_CHUNK_BYTES // image_bytes))


def max_input_bytes(model: ModelInfo) -> int:
    """The most bytes of latents or images in one request, by the limits of client and server."""
    limit = model.max_request_bytes
    return min(MAX_REQUEST_IMAGE_BYTES, max(1, limit - limit // _FRAMING_PART)) if limit else MAX_REQUEST_IMAGE_BYTES
