from __future__ import annotations

import grpc
import pytest

from server.errors import StartupError
from server.fronts import core_library
from server.fronts.aio import AioFront
from server.fronts.choice import choose_front
from server.fronts.core import CoreFront


@pytest.fixture
def unknown_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(core_library.cygrpc, "SendMessageOperation")


def test_the_core_is_taken_where_it_works(caplog: pytest.LogCaptureFixture) -> None:
    assert choose_front("auto") is choose_front("core") is CoreFront
    assert choose_front("aio") is AioFront
    assert not caplog.messages


@pytest.mark.usefixtures("unknown_library")
def test_an_unknown_grpcio_is_served_by_its_public_interface_and_one_line_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert choose_front("auto") is AioFront
    (line,) = caplog.messages
    assert line.startswith(f"grpcio {grpc.__version__} is unknown to the fast front (")
    assert "SendMessageOperation" in line


@pytest.mark.usefixtures("unknown_library")
def test_a_front_that_was_asked_for_by_name_must_work() -> None:
    with pytest.raises(StartupError, match=r"^--front core: cannot work with grpcio .*; leave the flag out"):
        choose_front("core")
