from __future__ import annotations

import pytest

from client.explore.watch import Served
from client.sdk.model_info import models_from
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import model, translator

app = pytest.importorskip("client.explore.app", reason="NO GRADIO: the page of the explorer was not tried")

TWO = Served(tuple(models_from(pb.ListModelsResponse(models=[model("alpha", 2), model("beta", 1)]))))
UNCHANGED = {"__type__": "update"}
GENERATOR_TABS = ("explore", "morph", "traversal", "compare")
KNOWN = app.Seen(0, ("alpha:2", "beta:1"), GENERATOR_TABS)


def served_with(*models: pb.Model) -> Served:
    return Served(tuple(models_from(pb.ListModelsResponse(models=models))))


def test_the_first_snapshot_selects_two_models() -> None:
    pick, other, seen, returns, banner, linked, tabs = app.lists_of(TWO, None, None, app.Seen(), 0)
    assert (pick["value"], other["value"]) == ("alpha:2", "beta:1")
    assert pick["choices"] == other["choices"] == ["alpha:2", "beta:1"]
    assert (seen, returns, banner, linked) == (KNOWN, 0, "", UNCHANGED)
    assert 'data-tabs="explore morph traversal compare"' in tabs
    assert 'data-query="?model=alpha:2"' in tabs


def test_nothing_changes_while_the_served_models_stay_the_same() -> None:
    assert app.lists_of(TWO, "beta:1", "alpha:2", KNOWN, 3) == (UNCHANGED, UNCHANGED, KNOWN, 3, "", *[UNCHANGED] * 2)


def test_a_page_without_a_selection_selects_again() -> None:
    pick, other, *_ = app.lists_of(TWO, None, "beta:1", KNOWN, 0)
    assert (pick["value"], other) == ("alpha:2", UNCHANGED)


def test_a_link_selects_its_model_and_is_shown_once() -> None:
    pick, other, _, _, banner, linked, _ = app.lists_of(TWO, None, None, app.Seen(), 0, "?model=beta:1&seed=5")
    assert (pick["value"], other["value"], linked, banner) == ("beta:1", "alpha:2", "?model=beta:1&seed=5", "")
    *_, linked, _ = app.lists_of(TWO, "beta:1", "alpha:2", KNOWN, 0, "?model=beta:1&seed=5")
    assert linked == UNCHANGED


def test_a_link_to_a_model_that_is_not_served_says_so() -> None:
    pick, _, _, _, banner, *_ = app.lists_of(TWO, None, None, app.Seen(), 0, "?model=gamma:1")
    assert pick["value"] == "gamma:1"
    assert "gamma:1 is no longer served; pick another model" in banner


def test_the_compared_model_is_another_one() -> None:
    _, other, *_ = app.lists_of(TWO, "beta:1", "beta:1", KNOWN, 0)
    assert other["value"] == "alpha:2"


def test_only_tabs_with_something_to_show_are_listed() -> None:
    assert app.tabs_for("dcgan:3", served_with(model())) == ("explore", "morph", "traversal")
    several = served_with(model(), model("wgan", 1), translator())
    assert app.tabs_for("dcgan:3", several) == GENERATOR_TABS
    assert app.tabs_for("a2b:5", several) == ("translate",)


def test_a_removed_model_stays_selected_with_a_banner() -> None:
    seen = app.Seen(0, ("alpha:1", "alpha:2", "beta:1"))
    pick, _, _, _, banner, *_ = app.lists_of(TWO, "alpha:1", "beta:1", seen, 0)
    assert (pick["value"], pick["choices"][-1]) == ("alpha:1", "alpha:1")
    assert "alpha:1 is no longer served; pick another model: alpha:2" in banner


def test_returns_of_the_server_are_counted() -> None:
    back = Served(TWO.models, "", 2)
    assert app.lists_of(back, "alpha:2", "beta:1", app.Seen(1, ("alpha:2", "beta:1")), 1)[3] == 2
    gone = Served(TWO.models, "The server is gone.", 2, "python -m server")
    seen = app.Seen(1, ("alpha:2", "beta:1"))
    *unchanged, banner, linked, tabs = app.lists_of(gone, "alpha:2", "beta:1", seen, 1)
    assert (*unchanged, linked, tabs) == (UNCHANGED, UNCHANGED, seen, 1, UNCHANGED, UNCHANGED)
    assert "<code>python -m server</code>" in banner
