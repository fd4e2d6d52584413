from __future__ import annotations

from pathlib import Path

import pytest

from trainer.data.dataset_names import slug_of, without_path


@pytest.mark.parametrize(
    ("dataset", "shown", "slug"),
    [
        ("digits", "digits", "digits"),
        ("fashion-mnist", "fashion-mnist", "fashion-mnist"),
        ("folder:/home/somebody/My Pictures", "folder:My Pictures", "my-pictures"),
        ("folder:/home/somebody/faces/", "folder:faces", "faces"),
        ("folder:faces.v2", "folder:faces.v2", "faces-v2"),
        ("zip:/home/somebody/faces.v2.zip", "zip:faces.v2", "faces-v2"),
        ("folder:/data/\u30d1\u30f3", "folder:\u30d1\u30f3", "pictures"),
    ],
)
def test_a_data_set_is_named_without_its_path(dataset: str, shown: str, slug: str) -> None:
    assert without_path(dataset) == shown
    assert slug_of(dataset) == slug


def test_the_current_folder_is_named_after_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "faces").mkdir()
    monkeypatch.chdir(tmp_path / "faces")
    assert without_path("folder:.") == "folder:faces"
