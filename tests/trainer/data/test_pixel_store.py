from __future__ import annotations

import io
import mmap
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from tests.picture_files import noise
from trainer.cache_folder import CACHE_VARIABLE
from trainer.data import decoding, pixel_store
from trainer.data.datasets import ImageData, load_images
from trainer.data.pixel_store import amount, chosen_rows
from trainer.errors import UserError
from trainer.progress import Progress

SIZE = 16
PICTURES = 12
GRAY_BYTES = PICTURES * SIZE * SIZE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve gray pictures, and one that is broken."""
    (tmp_path / "set").mkdir()
    for number in range(PICTURES - 1):
        Image.fromarray(noise(20, 20, seed=number)).save(tmp_path / "set" / f"{number:02d}.png")
    (tmp_path / "set" / "05b.png").write_bytes(b"broken")
    return tmp_path / "set"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "pixels"


def free(monkeypatch: pytest.MonkeyPatch, memory_bytes: int | None) -> None:
    monkeypatch.setattr(pixel_store, "free_memory_bytes", lambda: memory_bytes)


def load(folder: Path, progress: Progress, max_corrupt: int = 1) -> ImageData:
    return load_images(
        str(folder), data_root=folder, image_size=SIZE, max_corrupt_images=max_corrupt, progress=progress
    )


def said(progress: Progress) -> str:
    file = progress.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_decoding_takes_the_memory_of_the_pixels_once(tmp_path: Path, quiet: Progress) -> None:
    Image.fromarray(noise(128, 128, 3)).save(tmp_path / "0.bmp")
    for number in range(1, 500):
        (tmp_path / f"{number}.bmp").hardlink_to(tmp_path / "0.bmp")
    load_images(str(tmp_path), data_root=tmp_path, image_size=8, max_corrupt_images=0, progress=quiet)  # imports
    tracemalloc.start()
    images = load_images(str(tmp_path), data_root=tmp_path, image_size=128, max_corrupt_images=0, progress=quiet).images
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert images.numel() < peak < 1.6 * images.numel()  # a list of pictures besides the array would be 2.0


def test_pixels_that_do_not_fit_into_memory_are_the_same_on_disk(
    folder: Path, cache: Path, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, 10 * GRAY_BYTES)
    in_memory = load(folder, quiet)
    assert not cache.exists()
    free(monkeypatch, GRAY_BYTES)
    on_disk = load(folder, quiet)
    assert torch.equal(on_disk.images, in_memory.images)
    assert (on_disk.skipped, on_disk.pixel_range) == (in_memory.skipped, in_memory.pixel_range)
    assert sorted(path.suffix for path in cache.iterdir()) == [".json", ".lock", ".uint8"]
    assert "more than the free memory: decoding to the disk" in said(quiet)


def test_another_run_finds_the_pixels_although_the_pictures_have_moved(
    folder: Path, cache: Path, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, 0)
    first = load(folder, quiet)
    moved = folder.rename(folder.with_name("moved"))
    monkeypatch.setattr(decoding, "decode_image", lambda *_: pytest.fail("decoded again"))
    again = load(moved, quiet)
    assert torch.equal(first.images, again.images)
    assert again.skipped == first.skipped
    assert "already decoded" in said(quiet)
    with pytest.raises(UserError, match="--max-corrupt"):
        load(moved, quiet, max_corrupt=0)


@pytest.mark.parametrize("change", ["picture", "file", "facts"])
def test_changed_pictures_and_damaged_files_are_decoded_again(
    change: str, folder: Path, cache: Path, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, 0)
    before = load(folder, quiet).images.clone()
    (pixels,) = cache.glob("*.uint8")
    if change == "picture":
        Image.fromarray(noise(24, 24, seed=99)).save(folder / "00.png")
    elif change == "file":
        pixels.write_bytes(b"short")
    else:
        pixels.with_suffix(".json").write_bytes(b"{")
    assert torch.equal(load(folder, quiet).images, before) == (change != "picture")


@pytest.mark.parametrize("memory_bytes", [10**9, 2 * GRAY_BYTES, 0], ids=["memory", "both", "disk"])
def test_the_first_picture_in_colour_turns_the_others_into_rgb(
    memory_bytes: int, folder: Path, cache: Path, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    gray = load(folder, quiet).images
    Image.new("RGB", (20, 20), (1, 2, 3)).save(folder / "zz.png")
    free(monkeypatch, memory_bytes)
    images = load(folder, quiet).images
    assert images.shape == (PICTURES, 3, SIZE, SIZE)
    assert torch.equal(images[:-1], gray.repeat(1, 3, 1, 1))
    assert images[-1, :, 0, 0].tolist() == [1, 2, 3]
    assert not list(cache.glob(".*")) if cache.exists() else memory_bytes == 10**9


@pytest.mark.parametrize("reason", ["full", "reserved", "read-only"])
def test_pixels_that_fit_nowhere_are_refused_in_one_line_before_they_are_decoded(
    reason: str, folder: Path, cache: Path, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, 0)
    if reason == "read-only":
        cache.parent.write_text("a file in the way")
    else:

        def refuse(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.posix_fallocate", refuse)
    with pytest.raises(UserError, match=rf"--dataset .*take .*MiB.*{CACHE_VARIABLE}") as caught:
        load(folder, quiet)
    assert "\n" not in str(caught.value)
    assert not cache.exists() or not list(cache.glob("*.uint8"))
    assert not cache.exists() or not list(cache.glob(".*"))


def test_each_process_on_this_machine_needs_the_pixels(
    folder: Path, cache: Path, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, 8 * GRAY_BYTES)
    monkeypatch.setattr(pixel_store, "processes_here", lambda: 8)
    load(folder, quiet)
    assert cache.exists()


def test_a_tensor_on_disk_is_read_like_one_in_memory(
    folder: Path, cache: Path, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory = load(folder, quiet).images
    free(monkeypatch, 0)
    on_disk = load(folder, quiet).images
    rows = torch.tensor([3, 1, 10])
    assert torch.equal(chosen_rows(on_disk, rows), in_memory[rows])
    assert torch.equal(chosen_rows(on_disk[1:], rows - 1), in_memory[rows])
    assert torch.equal(chosen_rows(in_memory, rows), in_memory[rows])


@pytest.mark.parametrize("first", [0, 2])
def test_rows_on_disk_are_requested_together(
    first: int, folder: Path, cache: Path, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, 0)
    images = load(folder, quiet).images[first:]
    asked: list[tuple[int, int]] = []
    mapping = SimpleNamespace(madvise=lambda _advice, start, length: asked.append((start, start + length)))
    monkeypatch.setattr(pixel_store, "_MAPPINGS", {images.untyped_storage().data_ptr(): mapping})
    chosen_rows(images, torch.tensor([7, 1]))
    for (begin, end), row in zip(asked, (first + 7, first + 1), strict=True):
        assert begin % mmap.PAGESIZE == 0
        assert begin <= row * SIZE * SIZE
        assert end == (row + 1) * SIZE * SIZE


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(0, "0.0 MiB"), (5 << 19, "2.5 MiB"), (750 << 20, "750 MiB"), (3 << 29, "1.5 GiB")]
)
def test_sizes_are_shown_in_mib_and_gib(size_bytes: int, text: str) -> None:
    assert amount(size_bytes) == text
