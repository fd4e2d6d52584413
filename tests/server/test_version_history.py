from __future__ import annotations

import threading

import pytest

from server.models.catalog import Catalog, ServedModel
from server.version_history import MAX_APART, VersionHistory
from tests.server.served_models import call_of, served


@pytest.fixture
def catalog() -> Catalog:
    return Catalog()


@pytest.fixture
def history(catalog: Catalog) -> VersionHistory:
    return VersionHistory(catalog)


def answer(history: VersionHistory, name: str, version: int = 0) -> None:
    call = call_of(name, version)
    history.statistics_of(call).request_answered(call, "OK")


def requests(model: ServedModel) -> int:
    return sum(model.statistics.answered.values())


def total(history: VersionHistory, name: str) -> int:
    return sum(history.totals()[name].answered.values())


def test_a_served_model_has_a_total_before_anybody_asks_for_it(catalog: Catalog, history: VersionHistory) -> None:
    catalog.add(served())
    assert list(history.totals()) == ["tiny"]


@pytest.mark.parametrize("version", [0, 1, 7])
def test_a_request_belongs_to_the_served_version(catalog: Catalog, history: VersionHistory, version: int) -> None:
    catalog.add(model := served())
    answer(history, "tiny", version)
    assert requests(model) == 1


def test_names_that_were_never_served_belong_to_no_model(catalog: Catalog, history: VersionHistory) -> None:
    catalog.add(served())
    answer(history, "made-up")
    answer(history, "")
    assert list(history.totals()) == ["tiny"]
    assert sum(history.of_no_model().answered.values()) == 2


def test_a_total_goes_on_over_versions(catalog: Catalog, history: VersionHistory) -> None:
    for version in (1, 2):
        catalog.add(served(version=version))
        answer(history, "tiny", version)
    assert total(history, "tiny") == 2


def test_a_request_that_ends_after_a_swap_belongs_to_its_own_version(catalog: Catalog, history: VersionHistory) -> None:
    catalog.add(old := served(version=1))
    answer(history, "tiny", 1)
    catalog.add(new := served(version=2))
    answer(history, "tiny", 1)
    assert (requests(old), requests(new)) == (2, 0)


def test_a_total_stays_after_unloading(catalog: Catalog, history: VersionHistory) -> None:
    catalog.add(model := served())
    answer(history, "tiny", 1)
    catalog.remove("tiny")
    answer(history, "tiny", 1)
    answer(history, "tiny")
    assert requests(model) == total(history, "tiny") == 3


def test_loading_the_same_version_again_goes_on_too(catalog: Catalog, history: VersionHistory) -> None:
    for _ in range(3):
        catalog.add(served())
        answer(history, "tiny", 1)
    assert total(history, "tiny") == 3


def test_no_number_of_versions_loses_a_request_or_is_kept_apart(catalog: Catalog, history: VersionHistory) -> None:
    versions = range(1, 3 * MAX_APART)
    for version in versions:
        catalog.add(served(version=version))
        answer(history, "tiny", version)
    assert total(history, "tiny") == len(versions)
    assert len(history._histories["tiny"]._versions) == MAX_APART


def test_a_version_is_counted_once_however_often_it_is_found(catalog: Catalog, history: VersionHistory) -> None:
    old, new = served(version=1), served(version=2)
    for model in (old, new, old, new, old):  # as threads may see them that looked earlier
        history._note(model)
    catalog.add(new)
    answer(history, "tiny", 1)
    answer(history, "tiny", 2)
    assert total(history, "tiny") == 2


def test_a_version_that_is_long_past_is_not_counted_again(catalog: Catalog, history: VersionHistory) -> None:
    first = served(version=1)
    catalog.add(first)
    answer(history, "tiny", 1)
    for version in range(2, 20):
        catalog.add(served(version=version))
        answer(history, "tiny", version)
    history._note(first)  # as a thread may that looked into the catalog before all this
    assert total(history, "tiny") == 19


def test_threads_may_look_while_versions_change(catalog: Catalog, history: VersionHistory) -> None:
    seen: list[int] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.append(sum(sum(model.answered.values()) for model in history.totals().values()))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for version in range(1, 101):
            catalog.add(served(version=version))
            answer(history, "tiny", version)
    finally:
        done.set()
        thread.join()
    assert seen == sorted(seen)
    assert total(history, "tiny") == 100
