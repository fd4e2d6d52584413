"""A bundle as the exporter writes it, for the tests that need real graphs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganserve.bundle import VARIANT_FILES


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small convolutional generator with every variant; tests must not change it."""
    from exporter.export import export, plan_export
    from exporter.graph import SpatialLatents
    from tests.exporter.conftest import make_source
    from tests.exporter.generators import TutorialGenerator, randomise

    source = make_source(SpatialLatents(randomise(TutorialGenerator(width=8))))
    repository = tmp_path_factory.mktemp("repository")
    folder, card = export(source, plan_export(repository, "tiny", None, variants=list(VARIANT_FILES)))
    assert all(fidelity.published for fidelity in card.variants.values())
    return folder
