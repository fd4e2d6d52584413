"""Unpaired data: images of two domains, A and B, that translators learn to convert into each other.

`folder:PATH` and `zip:PATH` hold the folders trainA and trainB, and optionally testA and testB. Data sets of gray
strokes are drawn in two styles (drawn_domains.py).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from trainer.data import image_files
from trainer.data.datasets import as_rgb, batch_indices, check_dataset_name, load_images, normal_name, sha256_of
from trainer.data.decoding import decode_all
from trainer.data.drawn_domains import CHALK, INK, draw
from trainer.data.image_files import ImageFile, ImageSource
from trainer.errors import UserError
from trainer.progress import Progress

TRAINING_PARTS = ("trainA", "trainB")
TEST_PARTS = ("testA", "testB")
PARTS = TRAINING_PARTS + TEST_PARTS
DRAWN = ("digits", "mnist", "fashion-mnist")  # data sets of bright strokes on black
DRAWN_TEST_IMAGES = 64  # held out from such a data set and drawn in both styles

_Parts: TypeAlias = dict[str, list[ImageFile]]


@dataclass(frozen=True)
class UnpairedData:
    """Two domains at the training size; each part is uint8 (N, C, S, S), with N = 0 for a missing test set."""

    name: str
    train_a: Tensor
    train_b: Tensor
    test_a: Tensor
    test_b: Tensor
    test_is_paired: bool  # test_b[i] is the correct translation of test_a[i]
    skipped: tuple[str, ...] = ()  # one line per unreadable file, and per test image without a readable partner
    left_out: Mapping[str, int] = field(default_factory=dict)  # files that are not read: why -> how many
    pixel_range: tuple[int, int] | None = None  # darkest and brightest value, of decoded files

    @property
    def channels(self) -> int:
        """Channels of every image of every part: 1 or 3."""
        return self.train_a.shape[1]

    @property
    def images_per_epoch(self) -> int:
        """Images in one pass over the larger domain."""
        return max(len(self.train_a), len(self.train_b))

    @property
    def smallest_part(self) -> tuple[str, int]:
        """See `ImageData`."""
        if len(self.train_b) < len(self.train_a):
            return f"domain B of {self.name}", len(self.train_b)
        return self.name, len(self.train_a)

    @property
    def summary(self) -> str:
        """See `ImageData`."""
        tests = (len(self.test_a), len(self.test_b))
        test = f", {tests[0]} + {tests[1]} for testing" if any(tests) else ""
        paired = " (pairs)" if self.test_is_paired else ""
        return f"{len(self.train_a)} + {len(self.train_b)} images of two domains{test}{paired}"

    @property
    def parts(self) -> dict[str, Tensor]:
        """The four parts by the names of their folders."""
        return dict(zip(PARTS, (self.train_a, self.train_b, self.test_a, self.test_b), strict=True))

    def in_colour(self) -> UnpairedData:
        """See `ImageData`."""
        if self.channels == 3:
            return self
        train_a, train_b, test_a, test_b = (as_rgb(images) for images in self.parts.values())
        return replace(self, train_a=train_a, train_b=train_b, test_a=test_a, test_b=test_b)

    def samples(self, count: int) -> tuple[Tensor, Tensor]:
        """Up to `count` evenly spaced images of A and of B, from the test set if there is one; pairs stay pairs."""
        return (
            _evenly_spaced(self.test_a if len(self.test_a) else self.train_a, count),
            _evenly_spaced(self.test_b if len(self.test_b) else self.train_b, count),
        )


def sha256_of_unpaired(data: UnpairedData) -> str:
    """Hex SHA-256 of the shapes and pixels of all parts, and of `test_is_paired`."""
    pixels = sha256_of(*data.parts.values())
    return hashlib.sha256(f"{pixels} {data.test_is_paired}".encode()).hexdigest()


def load_unpaired(
    name: str, *, data_root: Path, image_size: int, max_corrupt_images: int, progress: Progress
) -> UnpairedData:
    """Decodes both domains to (N, C, image_size, image_size): short side resized, centre cropped.

    C is 1 if every image of every part is gray, else 3. Test images are pairs if both test folders hold the same file
    names, ignoring suffixes; then both are in the same order.

    Raises:
        UserError: there is no such data set, a domain has no training image, or more than `max_corrupt_images` are
            unreadable.
    """
    name = normal_name(name)
    check_dataset_name(name)
    if name in DRAWN:
        gray = load_images(
            name,
            data_root=data_root,
            image_size=image_size,
            max_corrupt_images=max_corrupt_images,
            progress=progress,
        )
        return _drawn(name, gray.images, progress)
    _, colon, path = name.partition(":")
    if not colon:
        raise UserError(f"--dataset {name}: is one domain; give {', '.join(DRAWN)}, folder:PATH or zip:PATH")
    with image_files.open_source(Path(path)) as source:
        parts, are_pairs = _pairs_in_one_order(_split(source))
        files = [file for part in PARTS for file in parts[part]]
        left_out = dict(source.left_out)
        if outside := len(source.files) - len(files):
            left_out[f"outside {', '.join(PARTS)}"] = outside
        images, decoded = decode_all(
            ImageSource(source.flag, files, left_out), (image_size, image_size), max_corrupt_images, progress
        )
    numbers = iter(range(len(files)))
    rows = {part: [next(numbers) for _ in parts[part]] for part in PARTS}
    readable = _rows_of(len(files), decoded.unreadable)
    lost, lines = _halves(rows, readable, parts) if are_pairs else (set(), [])
    domains = {}
    for part in PARTS:
        kept = [row for number in rows[part] if number not in lost and (row := readable[number]) is not None]
        if not kept and part in TRAINING_PARTS:
            raise UserError(f"{source.flag}: no readable image in {part}")
        domains[part] = images[kept[0] : kept[-1] + 1] if _is_range(kept) else images[kept]
    train_a, train_b, test_a, test_b = (domains[part] for part in PARTS)
    is_paired = are_pairs and len(test_a) > 0
    return UnpairedData(
        name,
        train_a,
        train_b,
        test_a,
        test_b,
        test_is_paired=is_paired,
        skipped=(*decoded.skipped, *lines),
        left_out=left_out,
        pixel_range=(decoded.darkest, decoded.brightest),
    )


def _rows_of(files: int, unreadable: Sequence[int]) -> list[int | None]:
    """For each file the row of its image in the array, or None if it has none."""
    missing, row = set(unreadable), itertools.count()
    return [None if number in missing else next(row) for number in range(files)]


def _is_range(rows: Sequence[int]) -> bool:
    """Whether a slice, which copies nothing, holds these ascending rows."""
    return bool(rows) and rows[-1] - rows[0] == len(rows) - 1


def _drawn(name: str, gray: Tensor, progress: Progress) -> UnpairedData:
    """Draws half of the images as ink on paper, half as chalk on a board, and a few held-out ones as both."""
    order = batch_indices(0, 0, len(gray))  # the files may be sorted by class or writer
    test_count = min(DRAWN_TEST_IMAGES, len(gray) // 4)
    held_out, rest = order[:test_count], order[test_count:]
    ink, chalk = rest.tensor_split(2)
    return UnpairedData(
        name,
        train_a=draw(gray, ink, INK, progress),
        train_b=draw(gray, chalk, CHALK, progress),
        test_a=draw(gray, held_out, INK, progress),
        test_b=draw(gray, held_out, CHALK, progress),
        test_is_paired=test_count > 0,
    )


def _split(source: ImageSource) -> _Parts:
    """Sorts the files into parts, whose folders are at the top level or inside one folder."""
    roots = {
        path.parts[:depth]
        for path in (file.path for file in source.files)
        for depth in (0, 1)
        if len(path.parts) > depth + 1 and path.parts[depth] in PARTS
    }
    root = () if () in roots or not roots else min(roots)
    if root and len(roots) > 1:
        names = ", ".join(repr(name) for (name,) in sorted(roots)[:5])
        raise UserError(f"{source.flag}: holds several data sets ({names}); give a folder or zip file with one")
    parts: _Parts = {part: [] for part in PARTS}
    for file in source.files:
        inside = file.path.parts[len(root) :]
        if file.path.parts[: len(root)] == root and len(inside) > 1 and inside[0] in PARTS:
            parts[inside[0]].append(file)
    missing = [part for part in TRAINING_PARTS if not parts[part]]
    if missing:
        raise UserError(
            f"{source.flag}: no image in {' and '.join(missing)}; unpaired training takes images from the folders"
            " trainA and trainB, and optionally testA and testB, at the top level or inside one folder"
        )
    return parts


def _pairs_in_one_order(parts: _Parts) -> tuple[_Parts, bool]:
    """The parts, and whether the test files are pairs by name; if so, both lists are sorted by name."""
    test_a, test_b = ({_stem(file, part): file for file in parts[part]} for part in TEST_PARTS)
    counts = {len(files) for files in (test_a, test_b, parts["testA"], parts["testB"])}
    if test_a.keys() != test_b.keys() or len(counts) > 1 or not test_a:  # duplicate names do not pair
        return parts, False
    stems = sorted(test_a)
    return parts | {"testA": [test_a[stem] for stem in stems], "testB": [test_b[stem] for stem in stems]}, True


def _stem(file: ImageFile, part: str) -> tuple[str, ...]:
    """The path below the part's folder, without the suffix."""
    parts = file.path.with_suffix("").parts
    return parts[parts.index(part) + 1 :]


def _halves(rows: dict[str, list[int]], readable: Sequence[int | None], parts: _Parts) -> tuple[set[int], list[str]]:
    """The numbers of readable test images whose partner is unreadable, and a line for each."""
    lost: set[int] = set()
    lines = []
    for part, other in (TEST_PARTS, TEST_PARTS[::-1]):
        for index, (number, partner) in enumerate(zip(rows[part], rows[other], strict=True)):
            if readable[partner] is None and readable[number] is not None:
                lost.add(number)
                lines.append(f"{parts[part][index].name}: its partner in {other} is unreadable")
    return lost, lines


def _evenly_spaced(images: Tensor, count: int) -> Tensor:
    index = torch.linspace(0, len(images) - 1, min(count, len(images))).round().long()
    return images[index]
