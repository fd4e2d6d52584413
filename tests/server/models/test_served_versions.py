from __future__ import annotations

import pytest

from server.models.served_versions import ServedVersions
from tests.server.served_models import served


@pytest.mark.parametrize(("preferred", "default"), [(None, 10), (2, 2), (5, 10)])
def test_the_newest_version_is_the_default_unless_another_is_preferred(preferred: int | None, default: int) -> None:
    versions = ServedVersions({number: served(version=number) for number in (10, 2)}, preferred, {})
    assert versions.default.card.version == default
    assert versions.resolve(0) is versions.default
    assert list(versions.by_version) == [2, 10]


@pytest.mark.parametrize(("version", "found"), [(2, 2), (3, None), ("stable", 2), ("gone", None), ("unknown", None)])
def test_numbers_and_labels_find_served_versions_only(version: int | str, found: int | None) -> None:
    model = ServedVersions({2: served(version=2)}, None, {"stable": 2, "gone": 1}).resolve(version)
    assert (None if model is None else model.card.version) == found
