"""Where decoded pixels are: in memory, or in a file of the cache that is mapped into memory if they do not fit.

The file is named after the names, sizes and times (or checksums) of the pictures, so that another run finds it, also
after the pictures have moved. It can be deleted at any time between runs.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final
from weakref import WeakValueDictionary

import msgspec
import numpy as np
import PIL
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from ganserve.files import replace_file
from ganserve.machine import free_memory_bytes
from trainer.cache_folder import CACHE_VARIABLE, cache_folder
from trainer.data.image_files import ImageSource
from trainer.errors import UserError
from trainer.parallel import processes_here
from trainer.progress import Progress

_DECODER: Final = "1"  # changes when the same files give other pixels
_MEMORY_SHARE: Final = 0.75  # of the free memory; networks and evaluations need the rest

# The files that are mapped into memory, by the address of their first pixel.
_MAPPINGS: Final[WeakValueDictionary[int, mmap.mmap]] = WeakValueDictionary()

Count = Annotated[int, msgspec.Meta(ge=0, le=10**12)]


class Decoded(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What decoding has found, apart from the pixels.

    Attributes:
        count: readable pictures.
        channels: of all images: 1 if every picture is gray, else 3.
        unreadable: the numbers of the other files, in ascending order.
        skipped: a line for each of them.
        coloured: pictures that are not gray.
        first_coloured: name of the first of them; "" if there is none.
        darkest: the smallest value of all pixels, 0 to 255.
        brightest: the largest.
    """

    count: Count
    channels: Annotated[int, msgspec.Meta(ge=1, le=3)]
    unreadable: tuple[Count, ...] = ()
    skipped: tuple[str, ...] = ()
    coloured: Count = 0
    first_coloured: str = ""
    darkest: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0
    brightest: Annotated[int, msgspec.Meta(ge=0, le=255)] = 255


class PixelStore:
    """One array for the pixels of a data set; the first picture decides whether it is in memory or on disk.

    Args:
        source: the files.
        size: height and width of the images, in pixels.
        progress: for the user.
    """

    def __init__(self, source: ImageSource, size: tuple[int, int], progress: Progress) -> None:
        self._source = source
        self._size = size
        self._progress = progress
        self._free = free_memory_bytes()
        self._images: NDArray[np.uint8] | None = None
        self._file: Path | None = None  # temporary, if the array is on disk
        self._count = 0

    @contextmanager
    def opened(self) -> Iterator[tuple[Tensor, Decoded] | None]:
        """Yields the images (N, C, H, W) that an earlier run has put on disk, or None if there are none to use.

        Meanwhile no other process decodes the same pictures to the disk. Removes an unfinished file at the end.
        """
        if self._fits(3):
            yield None
            return
        path = self._path()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path.with_suffix(".lock"))
            lock.acquire()
        except OSError as error:
            raise self._no_room(3, f"{path.parent} is not writable ({error.strerror})") from error
        try:
            yield self._found()
        finally:
            lock.release()
            if self._file is not None:
                self._file.unlink(missing_ok=True)

    def append(self, image: NDArray[np.uint8]) -> None:
        """Adds an image (H, W, 1 or 3). The first one in colour turns those before it into RGB.

        Raises:
            UserError: the pixels fit neither into memory nor on the disk.
        """
        channels = image.shape[2]
        if self._images is None:
            self._images = self._allocated(channels)
        elif channels > self._images.shape[1]:
            gray, file = self._images, self._file
            self._images = self._allocated(channels)
            self._images[: self._count] = gray[: self._count]
            if file is not None:
                file.unlink()
        self._images[self._count] = image.transpose(2, 0, 1)
        self._count += 1

    def close(self, decoded: Decoded) -> Tensor:
        """The images, uint8 (N, C, H, W); on disk, they stay for other runs."""
        assert self._images is not None
        images = self._images[: self._count]
        if self._file is None:
            return torch.from_numpy(images)
        assert isinstance(self._images, np.memmap)
        self._images.flush()
        path = self._path()
        self._file.rename(path)
        self._file = None
        replace_file(path.with_suffix(".json"), msgspec.json.encode(decoded))
        return _mapped(path, images.shape)

    def _found(self) -> tuple[Tensor, Decoded] | None:
        path = self._path()
        try:
            decoded = msgspec.json.decode(path.with_suffix(".json").read_bytes(), type=Decoded)
            images = _mapped(path, (decoded.count, decoded.channels, *self._size))
        except (OSError, ValueError, msgspec.MsgspecError):  # not there, or not complete
            return None
        self._progress.say(f"{self._what(decoded.channels)} on disk, already decoded into {path}")
        return images, decoded

    def _allocated(self, channels: int) -> NDArray[np.uint8]:
        shape = (len(self._source.files), channels, *self._size)
        if self._fits(channels):
            self._progress.say(f"{self._what(channels)} of memory")
            try:
                return np.empty(shape, dtype=np.uint8)
            except MemoryError as error:
                raise self._no_room(channels, "they do not fit into memory") from error
        path = self._path()
        file = path.with_name(f".{path.name}.{channels}.tmp")
        self._progress.say(f"{self._what(channels)}, more than the free memory: decoding to the disk, into {path}")
        try:
            with file.open("wb") as reserved:  # at full size: a full disk would end the process while it decodes
                self._file = file
                os.posix_fallocate(reserved.fileno(), 0, self._bytes(channels))
            return np.memmap(file, dtype=np.uint8, mode="r+", shape=shape)
        except OSError as error:
            raise self._no_room(channels, f"{path.parent} cannot hold them ({error.strerror})") from error

    def _no_room(self, channels: int, reason: str) -> UserError:
        free = "" if self._free is None else f" ({amount(self._free)} of memory is free)"
        return UserError(
            f"{self._source.flag}: {self._what(channels)}{free}, and {reason}; give a smaller --image-size or fewer"
            f" pictures, or set {CACHE_VARIABLE} to a folder with room"
        )

    def _fits(self, channels: int) -> bool:
        return self._free is None or self._bytes(channels) * processes_here() <= _MEMORY_SHARE * self._free

    def _bytes(self, channels: int) -> int:
        return len(self._source.files) * channels * self._size[0] * self._size[1]

    def _what(self, channels: int) -> str:
        height, width = self._size
        colours = "gray" if channels == 1 else "in colour"
        count = len(self._source.files)
        return f"{count:,} pictures at {width}x{height} {colours} take {amount(self._bytes(channels))}"

    def _path(self) -> Path:
        digest = hashlib.sha256(f"{_DECODER} {PIL.__version__} {self._size}".encode())
        for file in self._source.files:
            digest.update(f"{file.name}\0{file.identity()}\0".encode("utf-8", "surrogateescape"))
        return cache_folder() / "pixels" / f"{digest.hexdigest()[:32]}.uint8"


def amount(size_bytes: int) -> str:
    """A size for the user: "1.5 GiB", "23 MiB"."""
    gib, mib = size_bytes / (1 << 30), size_bytes / (1 << 20)
    return f"{gib:.1f} GiB" if gib >= 1 else f"{mib:.0f} MiB" if mib >= 10 else f"{mib:.1f} MiB"


def chosen_rows(images: Tensor, rows: Tensor) -> Tensor:
    """`images[rows]`. From the disk, all rows are read at once, and not one after another when they are copied."""
    if (mapping := _MAPPINGS.get(images.untyped_storage().data_ptr())) is not None:
        row_bytes = images[0].numel()
        for row in rows.tolist():
            start = images.storage_offset() + row * row_bytes
            beyond_page = start % mmap.PAGESIZE
            mapping.madvise(mmap.MADV_WILLNEED, start - beyond_page, row_bytes + beyond_page)
    return images[rows]


def _mapped(path: Path, shape: Sequence[int]) -> Tensor:
    """A tensor over a file of pixels, which the kernel reads when they are used."""
    with path.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given buffer is not writable")  # nothing writes to it
        images = torch.frombuffer(mapping, dtype=torch.uint8, count=math.prod(shape)).view(*shape)
    _MAPPINGS[images.data_ptr()] = mapping
    return images
