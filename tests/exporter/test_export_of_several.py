"""Several networks of one run: all of them are published, or none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from exporter.errors import InputError
from exporter.export import Plan, export_all, plan_exports
from exporter.source import Source
from ganserve import bundle
from ganserve.bundle import BundleError
from tests.exporter.conftest import make_translator_source
from tests.exporter.generators import BatchMeanTranslator, InverseTranslator


def pair_of(tmp_path: Path, second: nn.Module) -> list[tuple[Source, Plan]]:
    sources = [make_translator_source(network) for network in (InverseTranslator(), second)]
    return list(zip(sources, plan_exports(tmp_path, ["pair-a2b", "pair-b2a"], None), strict=True))


def test_networks_of_a_run_are_published_together(tmp_path: Path) -> None:
    steps: list[str] = []
    published = export_all(pair_of(tmp_path, nn.Identity()), steps.append)
    assert [folder for folder, _ in published] == [tmp_path / "pair-a2b" / "1", tmp_path / "pair-b2a" / "1"]
    assert [bundle.read_card(folder) for folder, _ in published] == [card for _, card in published]
    assert bundle.list_models(tmp_path) == ["pair-a2b", "pair-b2a"]
    assert {"pair-a2b: write ONNX", "pair-b2a: write ONNX"} < set(steps)
    assert steps.index("publish") == len(steps) - 1


def test_nothing_is_published_unless_all_networks_are_proven(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="image of a row changes"):
        export_all(pair_of(tmp_path, BatchMeanTranslator()))
    assert list(tmp_path.iterdir()) == []


def take_version(repository: Path) -> None:
    (repository / "pair-b2a" / "1").mkdir(parents=True)


def take_name(repository: Path) -> None:
    (repository / "pair-b2a").write_text("in the way")


def take_shape(repository: Path) -> None:
    (repository / "pair-b2a" / "7").mkdir(parents=True)
    (repository / "pair-b2a" / bundle.TRITON_CONFIG_FILE).write_text("of another shape")


@pytest.mark.parametrize("obstruct", [take_version, take_name, take_shape])
def test_nothing_is_published_unless_the_repository_takes_all_networks(
    tmp_path: Path, obstruct: Callable[[Path], None]
) -> None:
    exports = pair_of(tmp_path, nn.Identity())
    obstruct(tmp_path)  # another export was faster
    with pytest.raises(BundleError, match="pair-b2a") as error:
        export_all(exports)
    assert "already published" not in str(error.value)
    assert not (tmp_path / "pair-a2b").exists()


def test_publishing_that_fails_half_way_says_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exports = pair_of(tmp_path, nn.Identity())
    publish = bundle.publish

    def publish_and_obstruct(repository: Path, staged: Path, card: bundle.Card) -> Path:
        folder = publish(repository, staged, card)
        take_version(repository)
        return folder

    monkeypatch.setattr(bundle, "publish", publish_and_obstruct)
    with pytest.raises(BundleError, match=r"pair-b2a/1 exists already.*; already published: .*pair-a2b/1$"):
        export_all(exports)
