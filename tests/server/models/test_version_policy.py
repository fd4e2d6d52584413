from __future__ import annotations

from typing import Any

import pytest

from server.models.version_policy import VersionPolicy


@pytest.mark.parametrize(
    ("policy", "chosen", "candidates", "wanted"),
    [
        (VersionPolicy(), None, [7, 3, 2, 1], 1),
        (VersionPolicy(2), None, [7, 3, 2, 1], 2),
        (VersionPolicy(2), 3, [3, 2, 1], 2),  # newer versions are not served after a rollback
        (VersionPolicy(None, frozenset({2, 7, 9})), None, [7, 2], 2),
        (VersionPolicy(None, frozenset({2, 7})), 3, [7, 3, 2], 3),
        (VersionPolicy(None), None, [7, 3, 2, 1], 4),
        (VersionPolicy(None), 3, [7, 3, 2, 1], 4),
    ],
    ids=str,
)
def test_a_policy_names_the_versions_to_serve(
    policy: VersionPolicy, chosen: int | None, candidates: list[int], wanted: int
) -> None:
    named = policy.candidates([1, 2, 3, 7], chosen)
    assert named == candidates
    assert policy.wanted_count(named) == wanted


@pytest.mark.parametrize(
    ("policy", "missing"),
    [(VersionPolicy(None, frozenset({1, 9})), [9]), (VersionPolicy(9), []), (VersionPolicy(None), [])],
)
def test_only_specific_versions_can_be_missing(policy: VersionPolicy, missing: list[int]) -> None:
    assert policy.missing([1, 2]) == missing


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        (VersionPolicy(2), "latest 2"),
        (VersionPolicy(None, frozenset({3, 1})), "specific 1, 3"),
        (VersionPolicy(None), "all"),
    ],
)
def test_a_policy_prints_like_its_config(policy: Any, text: str) -> None:
    assert str(policy) == text
