from __future__ import annotations

import pytest

from client.explore.watch import Served
from client.sdk.model_info import models_from
from ganserve.v1 import generator_pb2 as pb
from tests.client.fake_server import model

app = pytest.importorskip("client.explore.app", reason="NO GRADIO: the page of the explorer was not tried")

TWO = Served(tuple(models_from(pb.ListModelsResponse(models=[model("alpha", 2), model("beta", 1)]))))
UNCHANGED = {"__type__": "update"}


def test_the_first_snapshot_selects_two_models() -> None:
    pick, other, seen, returns, banner = app.lists_of(TWO, None, None, app.Seen(), 0)
    assert (pick["value"], other["value"]) == ("alpha:2", "beta:1")
    assert pick["choices"] == other["choices"] == ["alpha:2", "beta:1"]
    assert (seen, returns, banner) == (app.Seen(0, ("alpha:2", "beta:1")), 0, "")


def test_nothing_changes_while_the_served_models_stay_the_same() -> None:
    _, _, seen, *_ = app.lists_of(TWO, None, None, app.Seen(), 0)
    assert app.lists_of(TWO, "beta:1", "alpha:2", seen, 3) == (UNCHANGED, UNCHANGED, seen, 3, "")


def test_a_page_without_a_selection_selects_again() -> None:
    _, _, seen, *_ = app.lists_of(TWO, None, None, app.Seen(), 0)
    pick, other, *_ = app.lists_of(TWO, None, "beta:1", seen, 0)
    assert (pick["value"], other) == ("alpha:2", UNCHANGED)


def test_a_removed_model_stays_selected_with_a_banner() -> None:
    seen = app.Seen(0, ("alpha:1", "alpha:2", "beta:1"))
    pick, _, _, _, banner = app.lists_of(TWO, "alpha:1", "beta:1", seen, 0)
    assert (pick["value"], pick["choices"][-1]) == ("alpha:1", "alpha:1")
    assert "alpha:1 is no longer served; pick another model: alpha:2" in banner


def test_returns_of_the_server_are_counted() -> None:
    back = Served(TWO.models, "", 2)
    assert app.lists_of(back, "alpha:2", "beta:1", app.Seen(1, ("alpha:2", "beta:1")), 1)[3] == 2
    gone = Served(TWO.models, "The server is gone.", 2)
    seen = app.Seen(1, ("alpha:2", "beta:1"))
    assert app.lists_of(gone, "alpha:2", "beta:1", seen, 1)[:4] == (UNCHANGED, UNCHANGED, seen, 1)
