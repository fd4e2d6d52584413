from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.picture_files import encoded
from trainer.data import unpaired
from trainer.data.datasets import NAMES, ImageData
from trainer.data.drawn_domains import CHALK, INK, Style
from trainer.data.unpaired import UnpairedData, load_unpaired, sha256_of_unpaired
from trainer.errors import UserError
from trainer.progress import Progress

EMOJI = Path(__file__).parents[3] / ".." / "shared" / "data" / "noto2twemoji-128.zip"
Load = Callable[..., UnpairedData]
Write = Callable[[dict[str, bytes]], str]


@pytest.fixture
def load(quiet: Progress, tmp_path: Path) -> Load:
    def load_it(name: str, *, size: int = 16, max_corrupt: int = 0) -> UnpairedData:
        return load_unpaired(name, data_root=tmp_path, image_size=size, max_corrupt_images=max_corrupt, progress=quiet)

    return load_it


def write_folder(path: Path, files: dict[str, bytes]) -> str:
    for name, content in files.items():
        (path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (path / "set" / name).write_bytes(content)
    return f"folder:{path / 'set'}"


def write_zip(path: Path, files: dict[str, bytes]) -> str:
    with zipfile.ZipFile(path / "set.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return f"zip:{path / 'set.zip'}"


@pytest.fixture(params=[write_folder, write_zip])
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Write:
    """Writes a data set of files and returns its name."""
    return lambda files: request.param(tmp_path, files)


def gray(level: int) -> bytes:
    return encoded(Image.new("L", (8, 8), level))


def red(level: int) -> bytes:
    return encoded(Image.new("RGB", (8, 8), (level, 0, 0)))


def files(below: str = "", /, **parts: Iterable[str]) -> dict[str, bytes]:
    """Gray files by name, each with its own level: 1 for the first, and so on."""
    names = [f"{below}{part}/{name}" for part, each in parts.items() for name in each]
    return {name: gray(level) for level, name in enumerate(names, start=1)}


def levels(images: torch.Tensor) -> list[int]:
    return [int(level) for level in images[:, 0, 0, 0]]


TRAINING = {"trainA": ["a.png", "b.png"], "trainB": ["c.png", "d.png", "e.png"]}


@pytest.mark.parametrize("below", ["", "horse2zebra/"])
def test_the_parts_are_found_at_the_top_level_or_inside_one_folder(load: Load, write: Write, below: str) -> None:
    others = {"preview.png": gray(200), "extra/trainA": b"no folder", ".hidden/trainA/x.png": gray(9)}
    data = load(write(files(below, **TRAINING, testA=["f.png"], testB=["g.png"]) | others))
    assert {part: levels(images) for part, images in data.parts.items()} == {
        "trainA": [1, 2],
        "trainB": [3, 4, 5],
        "testA": [6],
        "testB": [7],
    }
    assert data.train_a.shape == (2, 1, 16, 16)
    assert data.train_a.dtype == torch.uint8
    assert not data.test_is_paired


def test_a_folder_called_like_a_part_below_a_part_belongs_to_the_outer_one(load: Load, write: Write) -> None:
    data = load(write(files(trainA=["trainB/a.png"], trainB=["trainA/b.png", "testA/c.png"])))
    assert (levels(data.train_a), levels(data.train_b)) == ([1], [3, 2])
    assert len(data.test_a) == 0


def test_without_test_folders_there_are_no_test_images_and_samples_are_of_the_training_set(
    load: Load, write: Write
) -> None:
    data = load(write(files(**TRAINING)))
    assert data.test_a.shape == data.test_b.shape == (0, 1, 16, 16)
    assert not data.test_is_paired
    assert (levels(data.train_a), levels(data.train_b)) == ([1, 2], [3, 4, 5])
    assert [levels(images) for images in data.samples(2)] == [[1, 2], [3, 5]]


def test_with_one_test_folder_the_other_test_part_is_empty(load: Load, write: Write) -> None:
    data = load(write(files(**TRAINING, testB=["x.png"])))
    assert (len(data.test_a), levels(data.test_b), data.test_is_paired) == (0, [6], False)
    assert [levels(images) for images in data.samples(9)] == [[1, 2], [6]]


def test_test_files_with_equal_names_are_pairs_in_any_suffix_and_order(load: Load, write: Write) -> None:
    names_a, names_b = ["a-1.png", "a.png", "deep/b.png"], ["a.PNG", "a-1.png", "deep/b.bmp"]
    data = load(write(files(**TRAINING, testA=names_a, testB=names_b)))
    assert data.test_is_paired
    assert sorted(zip(levels(data.test_a), levels(data.test_b), strict=True)) == [(6, 10), (7, 9), (8, 11)]
    a, b = data.samples(2)
    assert set(zip(levels(a), levels(b), strict=True)) < {(6, 10), (7, 9), (8, 11)}


@pytest.mark.parametrize(
    ("names_a", "names_b"),
    [
        (["a.png", "b.png"], ["a.png", "c.png"]),
        (["a.png"], ["a.png", "b.png"]),
        (["a.png", "a.bmp"], ["a.png", "a.bmp"]),  # ambiguous partners
        (["x/a.png"], ["y/a.png"]),
    ],
)
def test_test_files_with_different_names_are_not_pairs(
    load: Load, write: Write, names_a: list[str], names_b: list[str]
) -> None:
    data = load(write(files(**TRAINING, testA=names_a, testB=names_b)))
    assert not data.test_is_paired
    assert (len(data.test_a), len(data.test_b)) == (len(names_a), len(names_b))


def test_an_unreadable_test_image_drops_its_partner(load: Load, write: Write) -> None:
    names = ["a.png", "b.png", "c.png"]
    content = files(**TRAINING, testA=names, testB=names) | {"testA/a.png": b"junk", "testB/c.png": b""}
    data = load(write(content), max_corrupt=2)
    assert (levels(data.test_a), levels(data.test_b), data.test_is_paired) == ([7], [10], True)
    assert [line.split(":")[0] for line in data.skipped] == ["testA/a.png", "testB/c.png", "testA/c.png", "testB/a.png"]


def test_without_a_readable_pair_there_is_no_test_set(load: Load, write: Write) -> None:
    content = files(**TRAINING, testA=["a.png"], testB=["a.png"]) | {"testA/a.png": b"junk"}
    data = load(write(content), max_corrupt=1)
    assert (len(data.test_a), len(data.test_b), data.test_is_paired) == (0, 0, False)


@pytest.mark.parametrize("part", unpaired.PARTS)
def test_one_colour_image_in_any_part_makes_all_of_them_rgb(load: Load, write: Write, part: str) -> None:
    data = load(write(files(**TRAINING, testA=["x.png"], testB=["y.png"]) | {f"{part}/z.png": red(99)}))
    assert data.channels == 3
    assert {images.shape[1] for images in data.parts.values()} == {3}
    assert data.parts[part][-1, :, 0, 0].tolist() == [99, 0, 0]
    assert data.train_a[0, :, 0, 0].tolist() == [1, 1, 1]


def test_the_limit_of_corrupt_files_covers_all_parts_together(load: Load, write: Write) -> None:
    name = write(files(**TRAINING) | {"trainA/x.png": b"junk", "trainB/x.png": b"junk"})
    assert len(load(name, max_corrupt=2).skipped) == 2
    with pytest.raises(UserError, match=r"more than 1 unreadable images.*--max-corrupt"):
        load(name, max_corrupt=1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (files(trainA=["a.png"]), "no image in trainB; unpaired training takes.*trainA and trainB"),
        (files(trainB=["a.png"], testA=["b.png"]), "no image in trainA; "),
        (files(images=["a.png"]), "no image in trainA and trainB; "),
        (files("deep/er/", **TRAINING), "no image in trainA and trainB; "),
        (files("one/", **TRAINING) | files("two/", **TRAINING), "several data sets.*'one', 'two'.*give a folder"),
        ({"trainA/a.txt": b"a note"}, "no images found"),
        (files(**TRAINING) | {"trainA/a.png": b"junk", "trainA/b.png": b""}, "no readable image in trainA"),
    ],
)
def test_a_set_without_two_domains_is_a_clear_error(
    load: Load, write: Write, content: dict[str, bytes], message: str
) -> None:
    with pytest.raises(UserError, match=f"--dataset .*{message}") as caught:
        load(write(content), max_corrupt=9)
    assert "\n" not in str(caught.value)


def test_names_of_folders_are_shown_escaped(load: Load, tmp_path: Path) -> None:
    sets = files("\x1b[31mone/", **TRAINING) | files("two/", **TRAINING)
    with pytest.raises(UserError) as caught:
        load(write_zip(tmp_path, sets))
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "celeba", "folder:", "folder:/absent", "zip:/absent.zip"])
def test_a_missing_set_is_refused(load: Load, name: str) -> None:
    with pytest.raises(UserError, match="--dataset"):
        load(name)


def with_parts(parts: dict[str, torch.Tensor], *, test_is_paired: bool = True) -> UnpairedData:
    train_a, train_b, test_a, test_b = parts.values()
    return UnpairedData("any", train_a, train_b, test_a, test_b, test_is_paired=test_is_paired)


def test_the_hash_depends_on_parts_pixels_shapes_and_pairing(load: Load, write: Write) -> None:
    data = load(write(files(**TRAINING, testA=["x.png"], testB=["x.png"])))
    brighter = data.train_a.clone()
    brighter[0, 0, 0, 0] += 1
    variants = [
        data.parts,
        data.parts | {"trainA": brighter},
        data.parts | {"trainA": data.train_b, "trainB": data.train_a},
        data.parts | {"testA": data.test_a[:0]},
        data.parts | {"trainA": data.train_a.reshape(2, 1, 8, 32)},
    ]
    hashes = {sha256_of_unpaired(with_parts(parts)) for parts in variants}
    hashes.add(sha256_of_unpaired(with_parts(data.parts, test_is_paired=False)))
    assert len(hashes) == len(variants) + 1
    assert sha256_of_unpaired(data) in hashes


@pytest.fixture
def built_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces every built-in data set by 200 images, each a square of a different brightness on black."""

    def load(name: str, *, image_size: int, **_: object) -> ImageData:
        images = torch.zeros(200, 1, image_size, image_size, dtype=torch.uint8)
        third = image_size // 3
        images[:, :, third:-third, third:-third] = torch.arange(50, 250, dtype=torch.uint8)[:, None, None, None]
        return ImageData(name, images)

    monkeypatch.setattr(unpaired, "load_images", load)


@pytest.mark.usefixtures("built_in")
@pytest.mark.parametrize("name", unpaired.DRAWN)
@pytest.mark.parametrize("size", [32, 64])
def test_a_built_in_set_is_drawn_in_two_styles(load: Load, name: str, size: int) -> None:
    data = load(name, size=size)
    assert {part: tuple(images.shape) for part, images in data.parts.items()} == {
        "trainA": (75, 3, size, size),
        "trainB": (75, 3, size, size),
        "testA": (50, 3, size, size),
        "testB": (50, 3, size, size),
    }
    assert data.test_is_paired
    for images, style in ((data.train_a, INK), (data.test_b, CHALK)):
        assert images.dtype == torch.uint8
        assert images[:, :, 0, 0].tolist() == [list(style.background)] * len(images)
    widths_a, widths_b = (
        (images[:, 0, size // 2] != images[:, 0, 0, 0, None]).sum(1).max() for images in (data.test_a, data.test_b)
    )
    assert widths_a < widths_b


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(unpaired.DRAWN)))
def test_a_set_of_other_images_is_refused_as_one_domain(load: Load, name: str) -> None:
    with pytest.raises(UserError, match=f"--dataset {name}: is one domain; give digits, .*folder:PATH"):
        load(name)


@pytest.mark.usefixtures("built_in")
def test_no_image_of_a_built_in_set_is_in_two_parts(monkeypatch: pytest.MonkeyPatch, load: Load) -> None:
    drawn: list[list[int]] = []

    def draw(gray: torch.Tensor, index: torch.Tensor, style: Style, progress: Progress) -> torch.Tensor:
        drawn.append(index.tolist())
        return torch.zeros(len(index), 3, 1, 1, dtype=torch.uint8)

    monkeypatch.setattr(unpaired, "draw", draw)
    load("digits")
    train_a, train_b, test_a, test_b = drawn
    assert test_a == test_b
    assert sorted(train_a + train_b + test_a) == list(range(200))
    assert train_a != sorted(train_a)  # files may be sorted by class


def test_the_digits_are_the_same_every_time(load: Load) -> None:
    first, second = load("digits", size=32), load("digits", size=32)
    assert sha256_of_unpaired(first) == sha256_of_unpaired(second)
    assert [len(images) for images in first.parts.values()] == [867, 866, 64, 64]
    assert not torch.equal(first.train_a[:64], first.test_a)


@pytest.mark.skipif(not EMOJI.is_file(), reason="shared/data/noto2twemoji-128.zip is not in the shared folder")
def test_the_emoji_set_has_its_published_parts_and_pairs(load: Load) -> None:
    data = load(f"zip:{EMOJI}", size=32)
    assert [len(images) for images in data.parts.values()] == [639, 639, 100, 100]
    assert (data.channels, data.test_is_paired, data.skipped) == (3, True, ())
    reals, partners = data.test_a.float(), data.test_b.float()
    strangers = partners.roll(1, dims=0)
    assert (reals - partners).abs().mean() < 0.75 * (reals - strangers).abs().mean()
