from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save

from exporter.__main__ import main
from exporter.errors import InputError
from exporter.remote import is_url, local_file
from ganserve import bundle
from tests.exporter.generators import LATENT_DIM, FlatGenerator

fsspec = pytest.importorskip("fsspec")


def ignore(line: str) -> None:
    """Hears of a transfer."""


@pytest.fixture
def memory() -> Iterator[Any]:
    """fsspec's file system in the memory of this process, at memory://."""
    files = fsspec.filesystem("memory")
    files.pipe("/bucket/g.safetensors", save(FlatGenerator().state_dict()))
    yield files
    files.rm("/bucket", recursive=True)


@pytest.mark.parametrize(
    ("location", "expected"),
    [("hf://user/repository/g.pth", True), ("s3://b/g", True), ("a/g.pth", False), ("C:/g", False)],
)
def test_a_url_has_a_protocol(location: str, expected: bool) -> None:
    assert is_url(location) == expected


@pytest.mark.parametrize("location", ["g.pth", "~/g.pth"])
def test_a_path_is_used_as_it_is(location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "g.pth").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with local_file(location, "--weights", ignore) as path:
        assert path == Path(location.replace("~", str(tmp_path)))


def test_no_location_is_no_file() -> None:
    with local_file("", "", ignore) as path:
        assert path == Path()


def test_a_url_is_copied_and_the_copy_is_removed(memory: Any) -> None:
    begun: list[str] = []
    with local_file("memory://bucket/g.safetensors", "--weights", begun.append) as path:
        assert path.name == "g.safetensors"
        assert path.read_bytes() == memory.cat("/bucket/g.safetensors")
    assert not path.exists()
    assert begun == ["fetch memory://bucket/g.safetensors"]


@pytest.mark.parametrize(("name", "message"), [("none.pth", "no such file"), ("", "is a folder; name the file in it")])
def test_what_is_no_file_gives_one_line(tmp_path: Path, name: str, message: str) -> None:
    location = str(tmp_path / name)
    with (
        pytest.raises(InputError, match=rf"^--weights {location}: {message}$"),
        local_file(location, "--weights", ignore),
    ):
        pass


def test_a_file_url_is_read(tmp_path: Path) -> None:
    (tmp_path / "g.pth").write_bytes(b"content")
    with local_file(f"file://{tmp_path}/g.pth", "--weights", ignore) as path:
        assert path.read_bytes() == b"content"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://bucket/other.pth", r"no such file; check the name, and your access to it$"),
        ("memory://bucket", r"is a folder; name the file in it$"),
        ("odd://bucket/g.pth", r"cannot be opened \(.*odd.*\); give a URL like s3://, gs://, hf:// or https://$"),
    ],
)
@pytest.mark.usefixtures("memory")
def test_what_cannot_be_fetched_gives_one_line(url: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"^--weights {url}: {message}"), local_file(url, "--weights", ignore):
        pass


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ImportError("Install s3fs to access S3"), r"needs another package \(ImportError: Install s3fs"),
        (
            PermissionError("token"),
            r"cannot be fetched \(PermissionError: token\); check the connection and your access",
        ),
    ],
)
def test_errors_of_a_file_system_give_one_line(error: Exception, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise error

    where = (
        "fsspec.core.url_to_fs"
        if isinstance(error, ImportError)
        else "fsspec.implementations.memory.MemoryFileSystem.isdir"
    )
    monkeypatch.setattr(where, fail)
    with pytest.raises(InputError, match=message), local_file("memory://bucket/g.safetensors", "--weights", ignore):
        pass


def test_without_the_extra_a_url_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_fsspec(name: str, *rest: Any) -> Any:
        if name.startswith("fsspec"):
            raise ImportError(name)
        return real_import(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_fsspec)
    with (
        pytest.raises(InputError, match=r"hf:// needs another package \(.*\); run pip install fsspec huggingface_hub$"),
        local_file("hf://a/b/c", "", ignore),
    ):
        pass


def test_errors_about_the_copy_name_the_url(memory: Any) -> None:
    memory.pipe("/bucket/junk.pth", b"junk")
    result = CliRunner().invoke(main, ["--tutorial-netg", "memory://bucket/junk.pth", "--name", "mine"])
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith(
        "Error: --tutorial-netg memory://bucket/junk.pth: neither safetensors"
    )


def test_hf_urls_are_those_of_huggingface_hub() -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    assert fsspec.get_filesystem_class("hf") is huggingface_hub.HfFileSystem


FLAGS = ["--module", "tests.exporter.generators:FlatGenerator", "--latent-dim", str(LATENT_DIM), "--name", "mine"]


@pytest.mark.usefixtures("without_onnx", "memory")
@pytest.mark.parametrize("as_flag", [True, False])
def test_weights_at_a_url_are_exported(as_flag: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    url = "memory://bucket/g.safetensors"
    result = CliRunner().invoke(main, [*FLAGS, *(["--weights", url] if as_flag else [url])])
    assert result.exit_code == 0, result.output
    assert bundle.read_card(tmp_path / "models" / "mine" / "1").architecture.endswith(":FlatGenerator")


@pytest.mark.parametrize(
    "flags", [["--name", "mine"], [*FLAGS, "--weights", "g.pth"], ["--tutorial-netg", "n.pth", "--name", "mine"]]
)
def test_a_url_in_the_place_of_a_run_needs_a_class(flags: list[str]) -> None:
    result = CliRunner().invoke(main, ["hf://user/repository/g.pth", *flags])
    assert result.exit_code == 2
    assert "hf://user/repository/g.pth: a URL names a file of weights; give its class with --module" in result.stderr


def test_a_module_and_its_pickle_at_a_url(memory: Any, tmp_path: Path) -> None:
    torch.save(FlatGenerator(), tmp_path / "g.pkl")
    memory.pipe("/bucket/g.pkl", (tmp_path / "g.pkl").read_bytes())
    flags = ["--pickle", "memory://bucket/g.pkl", "--latent-dim", str(LATENT_DIM), "--name", "mine"]
    assert "add --allow-pickle" in CliRunner().invoke(main, flags).stderr
