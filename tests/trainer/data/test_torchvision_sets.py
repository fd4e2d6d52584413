from __future__ import annotations

import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision import datasets

from tests.trainer.data.conftest import NOWHERE
from trainer.data.torchvision_sets import open_celeba, read_set
from trainer.errors import UserError


def test_mnist_archives_are_used_and_their_folder_stays_unchanged(mnist_root: Path) -> None:
    before = sorted(mnist_root.rglob("*"))
    images, labels = read_set("MNIST", mnist_root)
    assert images.shape == (6, 1, 28, 28)
    assert images[0, 0, 0].tolist() == list(range(28))
    assert labels.tolist() == list(range(6))
    assert torch.equal(read_set("MNIST", mnist_root, train=False)[0], 255 - images)
    assert sorted(mnist_root.rglob("*")) == before


def test_a_damaged_mnist_archive_is_refused_with_a_remedy(mnist_root: Path) -> None:
    (mnist_root / "MNIST" / "raw" / "train-images-idx3-ubyte.gz").write_bytes(b"not what was published")
    with pytest.raises(UserError, match=r"--data-root .*could not be downloaded.*train-images-idx3-ubyte.gz"):
        read_set("MNIST", mnist_root)


@pytest.mark.parametrize("unpacked", [False, True], ids=["archive", "unpacked"])
def test_cifar10_is_read_from_its_archive_or_its_unpacked_files(cifar_root: Path, *, unpacked: bool) -> None:
    archive = cifar_root / "cifar-10-python.tar.gz"
    if unpacked:
        with tarfile.open(archive) as tar:
            tar.extractall(cifar_root, filter="data")
        archive.unlink()
    before = sorted(cifar_root.rglob("*"))
    images, labels = read_set("CIFAR10", cifar_root)
    assert images.shape == (10, 3, 32, 32)
    assert images[:, 0, 5, 5].tolist() == list(range(10))
    assert images[:, 2].flatten(1).nonzero()[:, 1].tolist() == [1] * 10  # not transposed
    assert labels.tolist() == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
    assert read_set("CIFAR10", cifar_root, train=False)[1].tolist() == [5, 4]
    assert sorted(cifar_root.rglob("*")) == before


def test_a_data_set_that_is_missing_and_cannot_be_downloaded_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [NOWHERE])
    monkeypatch.setattr(datasets.CIFAR10, "url", NOWHERE)
    folder = tmp_path / "FashionMNIST" / "raw"
    for name, remedy in (("FashionMNIST", f"into {folder}"), ("CIFAR10", "put cifar-10-python.tar.gz into")):
        with pytest.raises(UserError, match=rf"--data-root .*{name} is missing and could not be downloaded") as caught:
            read_set(name, tmp_path)
        assert remedy in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_celeba_is_read_from_its_folder_or_its_archive(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "celeba" / "img_align_celeba"
    folder.mkdir(parents=True)
    for index in (2, 1, 3):
        Image.new("RGB", (178, 218)).save(folder / f"{index:06d}.jpg")
    if kind == "zip":
        with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
            for path in folder.iterdir():
                archive.write(path, f"img_align_celeba/{path.name}")
        shutil.rmtree(folder)
    with open_celeba(tmp_path) as source:
        assert [file.path.name for file in source.files] == ["000001.jpg", "000002.jpg", "000003.jpg"]
        assert source.files[0].read().startswith(b"\xff\xd8")
        assert source.flag == "--dataset celeba"


def test_celeba_that_google_drive_refuses_is_a_clear_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_id: str, folder: str, name: str, _md5: str) -> None:
        (Path(folder) / name).write_bytes(b"half of a file")
        raise RuntimeError("Too many users have viewed\nor downloaded this file recently")

    monkeypatch.setattr(datasets.utils, "download_file_from_google_drive", refuse)
    with pytest.raises(UserError, match=r"CelebA is missing .*Too many users.*put img_align_celeba.zip") as caught:
        open_celeba(tmp_path).__enter__()
    assert f"into {tmp_path / 'celeba'}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "celeba").iterdir()) == []


def test_celeba_that_is_downloaded_is_read_from_its_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(file_id: str, folder: str, name: str, md5: str) -> None:
        assert (file_id, md5, name) == datasets.CelebA.file_list[0]
        with zipfile.ZipFile(Path(folder) / name, "w") as archive:
            archive.writestr("img_align_celeba/000001.jpg", b"a face")

    monkeypatch.setattr(datasets.utils, "download_file_from_google_drive", download)
    for _ in range(2):  # the second time without a download
        with open_celeba(tmp_path) as source:
            assert [file.read() for file in source.files] == [b"a face"]
        monkeypatch.delattr(datasets.utils, "download_file_from_google_drive", raising=False)
