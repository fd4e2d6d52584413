from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ganserve import bundle
from ganserve.bundle import BundleError, ImageInput, LatentInput
from tests.ganserve.test_card import make_card, sizes


def publish(repository: Path, **changes: Any) -> Path:
    """Publishes a bundle of two small files that are not models."""
    with bundle.staging_folder(repository) as staged:
        files = {}
        for name in (bundle.ONNX_FILE, bundle.TORCHSCRIPT_FILE):
            (staged / name).write_bytes(name.encode())
            files[name] = bundle.sha256_of(staged / name)
        return bundle.publish(repository, [(staged, make_card(**({"files": files} | changes)))])[0]


@given(st.text(max_size=70) | st.from_regex(r"[\w.-]+"))
@example("..")
@example("a/b")
@example("tiny\n")
@example("é")
def test_accepted_name_is_a_plain_folder_name(name: str) -> None:
    try:
        bundle.check_name(name)
    except BundleError:
        return
    assert Path("models", name).resolve().parent == Path("models").resolve()
    assert not name.startswith(".")
    assert name.isascii()
    assert len(name) <= 64


@pytest.mark.parametrize("name", ["dcgan", "wgan-gp", "a", "0.1_b", "x" * 64])
def test_usual_names_are_accepted(name: str) -> None:
    assert bundle.check_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", ".staging", "-a", "_a", "a b", "a/b", "a\\b", "a\n", "é", "x" * 65])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(BundleError, match="use 1 to 64 letters"):
        bundle.check_name(name)


@given(st.lists(sizes, unique=True, max_size=5))
def test_versions_are_listed_oldest_first(versions: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder)
        for version in versions:
            bundle.version_folder(repository, "tiny", version).mkdir(parents=True)
        assert bundle.list_versions(repository, "tiny") == sorted(versions)
        assert bundle.list_models(repository) == (["tiny"] if versions else [])


@pytest.mark.parametrize(
    "entry", ["0", "01", "-1", "+1", "1.0", "1e3", "٣", "²", " 1", "1_0", ".1", "latest", "9" * 200]
)
def test_folder_that_is_not_a_version_is_not_listed(tmp_path: Path, entry: str) -> None:
    (tmp_path / "tiny" / entry).mkdir(parents=True)
    (tmp_path / "tiny" / "7").mkdir()
    listed = bundle.list_versions(tmp_path, "tiny")
    assert [version for version in listed if version != int("9" * 200)] == [7]


def test_files_next_to_models_and_versions_are_not_listed(tmp_path: Path) -> None:
    publish(tmp_path)
    (tmp_path / "notes").write_text("")
    (tmp_path / "tiny" / "2").write_text("")
    (tmp_path / ".hidden" / "1").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    assert bundle.list_models(tmp_path) == ["tiny"]
    assert bundle.list_versions(tmp_path, "tiny") == [1]
    assert bundle.list_versions(tmp_path, "other") == []


def test_repository_that_does_not_exist_gives_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        BundleError,
        match=r"no model repository at .*: export .* exporter RUN --models .*/nothing\), or",
    ):
        bundle.list_models(tmp_path / "nothing")


def test_a_file_as_repository_gives_one_line(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("")
    with pytest.raises(BundleError, match=r"model\.onnx is a file, not a model repository: give the folder"):
        bundle.list_models(tmp_path / "model.onnx")


def test_published_version_is_complete_and_readable_by_others(tmp_path: Path) -> None:
    folder = publish(tmp_path / "models")
    assert folder == tmp_path / "models" / "tiny" / "1"
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "model.onnx", "model.pt"]
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["tiny"]
    assert folder.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("change", [b"x", b""], ids=["longer", "cut-short"])
def test_tampered_file_is_refused(tmp_path: Path, change: bytes) -> None:
    folder = publish(tmp_path)
    path = folder / bundle.ONNX_FILE
    path.write_bytes(path.read_bytes() + change if change else path.read_bytes()[:-1])
    with pytest.raises(BundleError, match="sha256 differs from the card's"):
        bundle.read_verified_file(folder, bundle.read_card(folder), bundle.ONNX_FILE)


def test_file_that_is_missing_or_not_listed_is_refused(tmp_path: Path) -> None:
    folder = publish(tmp_path)
    card = bundle.read_card(folder)
    (folder / bundle.ONNX_FILE).unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        bundle.read_verified_file(folder, card, bundle.ONNX_FILE)
    with pytest.raises(BundleError, match="lists no other"):
        bundle.read_verified_file(folder, card, "other")


def test_version_is_never_replaced(tmp_path: Path) -> None:
    folder = publish(tmp_path, dataset="first")
    with pytest.raises(BundleError, match="already exists"):
        publish(tmp_path, dataset="second")
    assert bundle.read_card(folder).dataset == "first"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"height": 16}, id="image"),
        pytest.param({"input": LatentInput(latent_dim=7)}, id="latents"),
        pytest.param({"input": ImageInput(channels=3, height=8, width=8)}, id="images-in"),
    ],
)
def test_versions_of_a_model_keep_its_shapes(tmp_path: Path, change: dict[str, Any]) -> None:
    publish(tmp_path)
    publish(tmp_path, version=2)
    with pytest.raises(BundleError, match=r"tiny/2: turns .*, and this network turns .*; give it another --name"):
        publish(tmp_path, version=3, **change)
    assert bundle.list_versions(tmp_path, "tiny") == [1, 2]


@pytest.mark.parametrize("step", ["replace_file", "flush_to_disk", "Path.rename"])
def test_kill_while_publishing_leaves_no_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def die(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(f"ganserve.bundle.{step}", die)
        with pytest.raises(KeyboardInterrupt):
            publish(tmp_path)
    assert bundle.list_models(tmp_path) == []
    assert not (tmp_path / ".staging").exists()
    assert publish(tmp_path).is_dir()  # and it does not block the next one


def test_staging_folders_are_not_listed_and_are_independent(tmp_path: Path) -> None:
    with bundle.staging_folder(tmp_path) as first:
        with bundle.staging_folder(tmp_path) as second:
            (second / "1").mkdir()
            assert first != second
            assert bundle.list_models(tmp_path) == []
        assert first.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_repository_that_is_a_file_gives_one_line(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("")
    with (
        pytest.raises(BundleError, match="cannot write to the model repository"),
        bundle.staging_folder(tmp_path / "models"),
    ):
        pass


@pytest.mark.parametrize("obstacle", ["model is a file", "config is a folder", "config is not text"])
def test_obstacles_in_a_repository_give_a_bundle_error(tmp_path: Path, obstacle: str) -> None:
    model = tmp_path / "tiny"
    if obstacle == "model is a file":
        model.write_text("in the way")
    elif obstacle == "config is a folder":
        (model / bundle.TRITON_CONFIG_FILE).mkdir(parents=True)
    else:
        (model / "1").mkdir(parents=True)
        (model / bundle.TRITON_CONFIG_FILE).write_bytes(b"\xff\xfe")
    with bundle.staging_folder(tmp_path) as staged, pytest.raises(bundle.BundleError, match="tiny"):
        bundle.publish(tmp_path, [(staged, make_card(version=2))])
    assert not (model / "2").exists()


def test_empty_folder_of_a_version_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "tiny" / "1").mkdir(parents=True)
    with bundle.staging_folder(tmp_path) as staged, pytest.raises(bundle.BundleError, match="already exists"):
        bundle.publish(tmp_path, [(staged, make_card())])


def publish_pair(repository: Path) -> list[Path]:
    with bundle.staging_folder(repository) as first, bundle.staging_folder(repository) as second:
        pair = [(first, make_card(name="pair-a2b")), (second, make_card(name="pair-b2a"))]
        return bundle.publish(repository, pair)


def take_version(repository: Path) -> None:
    (repository / "pair-b2a" / "1").mkdir(parents=True)


def take_name(repository: Path) -> None:
    (repository / "pair-b2a").write_text("in the way")


def take_shape(repository: Path) -> None:
    (repository / "pair-b2a" / "7").mkdir(parents=True)
    (repository / "pair-b2a" / bundle.TRITON_CONFIG_FILE).write_text("of another shape")


@pytest.mark.parametrize("obstruct", [take_version, take_name, take_shape])
def test_versions_are_published_only_if_all_can_be(tmp_path: Path, obstruct: Callable[[Path], None]) -> None:
    obstruct(tmp_path)
    with pytest.raises(BundleError, match="pair-b2a") as error:
        publish_pair(tmp_path)
    assert "already published" not in str(error.value)
    assert not (tmp_path / "pair-a2b").exists()


def test_a_failure_while_publishing_names_the_published_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def fail_for_second(path: Path, target: Path) -> Path:
        if target.parent.name == "pair-b2a":
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_for_second)
    with pytest.raises(BundleError, match=r"pair-b2a/1: .*No space left.*; already published: .*pair-a2b/1$"):
        publish_pair(tmp_path)
    assert bundle.list_models(tmp_path) == ["pair-a2b"]


def test_leftovers_of_a_killed_export_are_removed_after_a_day(tmp_path: Path) -> None:
    old, fresh = tmp_path / ".staging" / "old", tmp_path / ".staging" / "fresh"
    for folder in (old, fresh):
        folder.mkdir(parents=True)
    two_days_ago_s = time.time() - 2 * 86_400
    os.utime(old, (two_days_ago_s, two_days_ago_s))
    with bundle.staging_folder(tmp_path):
        assert not old.exists()
        assert fresh.exists()


def test_a_version_that_cannot_be_listed_does_not_hide_the_other_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path)
    publish(tmp_path, name="locked")
    list_folder = Path.iterdir

    def refuse(path: Path) -> Any:
        if path.name == "locked":
            raise PermissionError(13, "Permission denied")
        return list_folder(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert bundle.list_models(tmp_path) == ["locked", "tiny"]
    with pytest.raises(PermissionError):
        bundle.list_versions(tmp_path, "locked")


def test_the_repository_above_a_model_or_version_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = publish(tmp_path)
    assert bundle.repository_above(folder) == bundle.repository_above(folder.parent) == tmp_path
    assert bundle.repository_above(tmp_path) is None
    assert bundle.repository_above(tmp_path / "nothing") is None
    monkeypatch.chdir(folder)
    assert bundle.repository_above(Path()) == tmp_path


def test_lines_that_an_operator_adds_to_the_config_are_kept(tmp_path: Path) -> None:
    config = tmp_path / "tiny" / bundle.TRITON_CONFIG_FILE
    for version in (1, 2):
        with bundle.staging_folder(tmp_path) as staged:
            bundle.publish(tmp_path, [(staged, make_card(version=version))])
        config.write_text(f"{config.read_text()}# added after version {version}\n")
    added = "# added after version 1\n# added after version 2\n"
    assert config.read_text() == bundle.triton_config(make_card()) + added
