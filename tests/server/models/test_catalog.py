from __future__ import annotations

import asyncio

import pytest

from server.errors import NotServed
from server.models.catalog import Catalog
from server.models.model_settings import ModelSettings
from server.request import InFlightRequest
from tests.server.served_models import served


def catalog_of(*names: str, version: int = 3) -> Catalog:
    catalog = Catalog()
    for name in names:
        catalog.add(served(name, version))
    return catalog


def request_of() -> InFlightRequest:
    return InFlightRequest("Generate", 0.0)


@pytest.mark.parametrize("version", [0, 3])
def test_the_served_version_is_found_by_its_number_and_by_zero(version: int) -> None:
    catalog, request = catalog_of("tiny"), request_of()
    model = catalog.find("tiny", version, request)
    assert model is catalog["tiny"]
    assert (request.model, request.version) == ("tiny", 3)


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("other", 0, "no model 'other' is served: use one of tiny, wgan"),
        ("", 0, "model is empty: use one of tiny, wgan"),
        ("tiny", 2, "version 2 of 'tiny' is not served: use version 3, or 0 for the newest one"),
        ("tiny", -(2**63), f"version {-(2**63)} of 'tiny' is not served"),
    ],
)
def test_an_unknown_model_is_refused_with_the_served_ones(name: str, version: int, message: str) -> None:
    catalog, request = catalog_of("wgan", "tiny"), request_of()
    with pytest.raises(NotServed, match=message):
        catalog.find(name, version, request)
    assert (request.model, request.version, request.pinned) == (name, 0, None)


def test_an_error_message_stays_short() -> None:
    catalog = catalog_of(*(f"model-{number}" for number in range(100)))
    with pytest.raises(NotServed) as error:
        catalog.find("x" * 10_000, 0, request_of())
    assert len(str(error.value)) < 500


def test_an_empty_catalog_suggests_no_name() -> None:
    with pytest.raises(NotServed, match=r"no model 'tiny' is served: no model is loaded, so try again later$"):
        Catalog().find("tiny", 0, request_of())


def test_several_versions_are_served_side_by_side() -> None:
    catalog = catalog_of("tiny")
    for version in (10, 4):
        catalog.add(served("tiny", version))
    assert [model.card.version for model in catalog.versions("tiny")] == [3, 4, 10]
    assert [str(model) for model in catalog.versions()] == ["tiny:3", "tiny:4", "tiny:10"]
    assert str(catalog["tiny"]) == "tiny:10"
    for version, expected in ((0, 10), (3, 3), (4, 4), (10, 10)):
        assert catalog.find("tiny", version, request_of()).card.version == expected
    with pytest.raises(
        NotServed, match="version 5 of 'tiny' is not served: use one of the versions 3, 4, 10, or 0 for"
    ):
        catalog.find("tiny", 5, request_of())


def test_a_chosen_version_is_the_default_while_it_is_served() -> None:
    catalog = catalog_of("tiny")
    catalog.add(served("tiny", 4))
    catalog.choose("tiny", 3, ModelSettings())
    assert catalog.find("tiny", 0, request_of()).card.version == 3
    catalog.add(served("tiny", 5))
    assert str(catalog["tiny"]) == "tiny:3"
    catalog.remove("tiny", 3)
    assert str(catalog["tiny"]) == "tiny:5"


def test_labels_stand_for_versions() -> None:
    catalog = catalog_of("tiny")
    catalog.add(served("tiny", 4))
    catalog.choose("tiny", None, ModelSettings(labels={"stable": 3, "old": 1}))
    request = request_of()
    assert catalog.find("tiny", "stable", request).card.version == request.version == 3
    with pytest.raises(NotServed, match="label 'old' of 'tiny' stands for version 1, which is not served: use one of"):
        catalog.find("tiny", "old", request_of())
    with pytest.raises(NotServed, match="'tiny' has no version label 'canary', only stable, old: use one of"):
        catalog.find("tiny", "canary", request_of())
    catalog.choose("tiny", None, ModelSettings(labels={"stable": 4}))
    assert catalog.find("tiny", "stable", request_of()).card.version == 4


def test_the_last_version_takes_its_model_out_of_the_catalog() -> None:
    catalog = catalog_of("tiny")
    catalog.remove("tiny", 4)
    assert "tiny" in catalog
    catalog.remove("tiny", 3)
    assert "tiny" not in catalog
    assert catalog.versions("tiny") == catalog.versions() == []
    assert catalog.resolve("tiny", 0) is None


async def test_a_found_model_is_in_use_until_its_request_releases_it() -> None:
    catalog, request = catalog_of("tiny"), request_of()
    model = catalog.find("tiny", 0, request)
    waiting = asyncio.create_task(model.unused())
    await asyncio.wait((waiting,), timeout=0)
    assert (model.users, request.pinned, waiting.done()) == (1, model, False)
    model.leave()
    await waiting
    assert model.users == 0


def test_models_are_listed_by_name_and_a_snapshot_outlives_a_change() -> None:
    catalog = catalog_of("wgan", "tiny")
    models = catalog.versions()
    catalog.add(served("tiny", 4))
    catalog.remove("tiny", 3)
    catalog.remove("wgan")
    assert [str(model) for model in models] == ["tiny:3", "wgan:3"]
    assert [str(model) for model in catalog.versions()] == ["tiny:4"]
    assert (list(catalog), len(catalog)) == (["tiny"], 1)
