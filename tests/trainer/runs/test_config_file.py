from __future__ import annotations

from pathlib import Path

import pytest

from trainer.errors import RunFolderError
from trainer.runs.config_file import check_is_run


def test_a_folder_with_a_config_is_a_run_and_others_are_not(tmp_path: Path) -> None:
    for path in (tmp_path / "gone", tmp_path):
        with pytest.raises(
            RunFolderError, match=rf"^{path}: not a run folder \(it has no config\.json\); give the folder"
        ):
            check_is_run(path)
    (tmp_path / "config.json").touch()
    check_is_run(tmp_path)
