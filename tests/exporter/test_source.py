from __future__ import annotations

from pathlib import Path

import pytest

from exporter.errors import InputError
from exporter.source import from_run
from exporter.verify import check_output
from ganserve.bundle import ImageInput, LatentInput
from tests.exporter.conftest import graph_of
from tests.exporter.fake_runs import make_exported_run, make_translation_run, replace_runs
from tests.exporter.generators import LATENT_DIM, ResNetTranslator
from trainer.runs.run_folder import ExportedRun, RunFolderError


def test_run_of_a_generator_becomes_one_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = replace_runs(monkeypatch, [make_exported_run()])
    (source,) = from_run(tmp_path, "epoch-0012")
    assert asked == [(tmp_path, "epoch-0012")]
    assert source.input == LatentInput(latent_dim=LATENT_DIM)
    assert (source.name, source.suffix) == ("dcgan", "")
    assert (source.kind, source.architecture, source.dataset) == ("dcgan", "dcgan", "digits")
    assert source.training == {"preset": "dcgan-digits", "checkpoint": "epoch-0012", "step": 7}
    assert check_output(source, graph_of(source)) == (1, 4, 4)


def test_run_of_two_translators_becomes_two_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    replace_runs(monkeypatch, make_translation_run(ResNetTranslator(), ResNetTranslator()))
    sources = from_run(tmp_path, "last")
    assert [(source.name, source.suffix) for source in sources] == [("cyclegan-a2b", "-a2b"), ("cyclegan-b2a", "-b2a")]
    for source in sources:
        assert source.input == ImageInput(channels=3, height=8, width=8)
        assert check_output(source, graph_of(source)) == (3, 8, 8)


def test_run_whose_images_do_not_match_its_config_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    replace_runs(monkeypatch, [make_exported_run(size=(8, 6))])
    (source,) = from_run(tmp_path, "best")
    with pytest.raises(InputError, match=r"returns images of shape \(1, 4, 4\), but its run says \(1, 8, 6\)"):
        check_output(source, graph_of(source))


def test_folder_that_is_not_a_run_gives_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run folder") as caught:
        from_run(tmp_path, "best")
    assert "\n" not in str(caught.value)


def test_error_of_a_run_becomes_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(run: Path, which: str) -> list[ExportedRun]:
        raise RunFolderError("no epoch-0012;\n  try another")

    monkeypatch.setattr("trainer.runs.run_folder.load_generators", fail)
    with pytest.raises(InputError, match=r"^no epoch-0012; try another$"):
        from_run(tmp_path, "epoch-0012")
