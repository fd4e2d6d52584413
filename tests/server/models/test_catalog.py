from __future__ import annotations

import asyncio

import pytest

from server.errors import NotServed
from server.models.catalog import Catalog
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
    models, newer = catalog.values(), served("tiny", 4)
    catalog.add(newer)
    catalog.remove("wgan")
    assert [str(model) for model in models] == ["tiny:3", "wgan:3"]
    assert [str(model) for model in catalog.values()] == ["tiny:4"]
    assert (list(catalog.keys()), list(catalog.items()), len(catalog)) == (["tiny"], [("tiny", newer)], 1)
