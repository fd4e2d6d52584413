from __future__ import annotations

from pathlib import Path

import pytest

from trainer.cache_folder import CACHE_VARIABLE, cache_folder


def test_the_cache_is_in_the_home_folder_unless_a_variable_names_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(CACHE_VARIABLE)
    assert cache_folder() == tmp_path / ".cache" / "ganserve"
    monkeypatch.setenv(CACHE_VARIABLE, "/elsewhere")
    assert cache_folder() == Path("/elsewhere")
