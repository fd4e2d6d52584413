"""What a folder or zip file of pictures holds, found without decoding it: numbers, sizes, folders, files left out."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from ganserve.picture_formats import picture_formats
from ganserve.wording import counted
from trainer.data.image_files import ImageFile, open_source
from trainer.data.unpaired import TRAINING_PARTS

MOST_HEADERS: Final = 200  # read for the sizes
_MOST_SHOWN: Final = 5  # folders and reasons in a line


@dataclass(frozen=True)
class Inspection:
    """A summary of the files of one data set."""

    name: str  # of the folder or zip file, without its path
    pictures: int
    left_out: Mapping[str, int]  # why -> number of files
    folders: Mapping[str, int]  # the folders that hold pictures -> their number; "" is the top
    sizes: Sequence[tuple[int, int]]  # width and height in pixels, of up to MOST_HEADERS pictures

    @property
    def short_side(self) -> int:
        """The median of the shorter sides, in pixels; 0 if no header is readable."""
        sides = sorted(map(min, self.sizes))
        return sides[len(sides) // 2] if sides else 0

    def in_domain(self, domain: str) -> int:
        """Pictures below the folder `domain`, such as trainA, at any depth."""
        return sum(count for folder, count in self.folders.items() if domain in folder.split("/"))

    @property
    def largest_domain(self) -> int:
        """Pictures in the larger one of trainA and trainB."""
        return max(map(self.in_domain, TRAINING_PARTS))

    @property
    def smallest_domain(self) -> int:
        """Pictures in the smaller one of trainA and trainB."""
        return min(map(self.in_domain, TRAINING_PARTS))

    @property
    def aspect(self) -> float:
        """The median of width / height; 1 if no header is readable."""
        aspects = sorted(width / height for width, height in self.sizes)
        return aspects[len(aspects) // 2] if aspects else 1.0

    def lines(self, size: tuple[int, int] = (1, 1), *, domains: bool = False) -> list[str]:
        """The summary for the user.

        Args:
            size: height and width of the images that the pictures become.
            domains: trainA and trainB are two sets.
        """
        total = self.pictures + sum(self.left_out.values())
        lines = [f"{self.name}: {counted(self.pictures, 'picture')}{self._size_text()} in {counted(total, 'file')}"]
        if (cropped := sum(width * size[0] != height * size[1] for width, height in self.sizes)) > 0:
            share = "all" if cropped == len(self.sizes) else f"{max(1, round(100 * cropped / len(self.sizes)))}%"
            shape = "not square" if size[0] == size[1] else f"not of the shape {size[0]}x{size[1]}"
            lines.append(f"{shape}: {share}; their centre is used")
        if len(self.folders) > 1:
            shown = _shortened({f"in {name}" if name else "at the top": n for name, n in self.folders.items()})
            one_set = "" if domains else "; taken as one set, without labels"
            lines.append(f"{counted(len(self.folders), 'folder')}: {shown}{one_set}")
        return lines

    def _size_text(self) -> str:
        if not self.sizes:
            return ""
        smallest, largest = (choose(self.sizes, key=lambda size: size[0] * size[1]) for choose in (min, max))
        if smallest == largest:
            return f" of {smallest[0]}x{smallest[1]}"
        return f" from {smallest[0]}x{smallest[1]} to {largest[0]}x{largest[1]}"


def inspect(path: Path) -> Inspection:
    """Inspects a folder or a zip file.

    Raises:
        UserError: it does not exist, is neither, or holds no image.
    """
    with open_source(path) as source:
        folders = Counter("/".join(file.path.parts[:-1]) for file in source.files)
        step = max(1, len(source.files) // MOST_HEADERS)
        sizes = [size for file in source.files[::step][:MOST_HEADERS] if (size := _size_of(file)) is not None]
        return Inspection(
            path.absolute().name, len(source.files), source.left_out, dict(sorted(folders.items())), sizes
        )


def _size_of(file: ImageFile) -> tuple[int, int] | None:
    """Width and height by the header; None if it is unreadable, which decoding reports."""
    try:
        with warnings.catch_warnings(), file.open() as content:
            warnings.filterwarnings("ignore", module="PIL")
            with Image.open(content, formats=picture_formats()) as image:
                return image.size
    except Exception:  # noqa: BLE001  # readers of formats and archives raise anything on hostile files
        return None


def _shortened(counts: Mapping[str, int]) -> str:
    """The first few counts: "120 in cats, 119 in dogs and 3 more"."""
    shown = [f"{count:,} {name}" for name, count in list(counts.items())[:_MOST_SHOWN]]
    more = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
