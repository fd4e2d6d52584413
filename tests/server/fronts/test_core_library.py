from __future__ import annotations

from typing import Any

import pytest

from server.fronts import core_library
from server.fronts.core_library import UnknownLibraryError, check_library, cygrpc


def test_the_installed_grpcio_is_as_expected() -> None:
    check_library()


@pytest.mark.parametrize("name", ["CompletionQueue", "Server", "Call", "ReceiveCloseOnServerOperation"])
def test_a_missing_class_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delattr(cygrpc, name)
    with pytest.raises(UnknownLibraryError, match=name):
        check_library()


def test_other_arguments_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def server(options: Any) -> None:
        raise AssertionError(options)

    monkeypatch.setattr(cygrpc, "Server", server)
    monkeypatch.setattr(core_library, "_NEEDED", {})
    with pytest.raises(UnknownLibraryError, match="positional argument"):
        check_library()


def test_other_events_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_library, "_life_of_a_server", lambda: [("end", True), ("call", False)])
    with pytest.raises(UnknownLibraryError, match="order of events"):
        check_library()
