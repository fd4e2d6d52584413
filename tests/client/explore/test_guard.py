from __future__ import annotations

from typing import Any

import pytest

from client.errors import GanClientError, InvalidRequest, ServerUnreachable
from client.explore.watch import Served

guards = pytest.importorskip("client.explore.guard", reason="NO GRADIO: the page of the explorer was not tried")


class FakeWatch:
    def snapshot(self) -> Served:
        return Served()

    def failed(self, error: GanClientError) -> Served:
        return Served((), f"The server is gone: {error}.", 1, "python -m server")


def guarded(result: Any) -> Any:
    guard = guards.Guard(FakeWatch(), "banner", "server banner")
    assert guard.outputs(["a"]) == ["a", "banner", "server banner"]

    def handler() -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    return guard(handler)()


def test_a_success_clears_the_banner() -> None:
    assert guarded(("made",))[:2] == ("made", "")


def test_an_error_changes_only_the_banner() -> None:
    shown = guarded(InvalidRequest("seed: must be <small>"))
    assert list(shown) == ["banner"]
    assert "seed: must be &lt;small&gt;" in shown["banner"]


def test_an_unreachable_server_has_its_own_banner() -> None:
    shown = guarded(ServerUnreachable("no server"))
    assert shown["banner"] == ""
    assert "The server is gone: no server." in shown["server banner"]
    assert "<code>python -m server</code>" in shown["server banner"]


def test_fields_are_restored_while_the_server_is_unreachable() -> None:
    def handler(_seed: str) -> tuple[str]:
        raise ServerUnreachable("no server")

    guard = guards.Guard(FakeWatch(), "banner", "server banner")
    shown = guard(handler, lambda seed: {"seed": seed.strip()})(" 7 ")
    assert shown["seed"] == "7"


def test_outputs_can_be_filled_together_with_an_error() -> None:
    values = guarded(guards.WithBanner(("made",), "seed: invalid"))
    assert values[0] == "made"
    assert "seed: invalid" in values[1]


def test_an_empty_result_changes_nothing() -> None:
    assert list(guarded(())) == ["banner"]
