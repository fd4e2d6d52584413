from __future__ import annotations

import grpc
import pytest

from server.errors import InternalError, ServerError
from tests.server.behaviours import REFUSALS


@pytest.mark.parametrize("field", ["code", "reason"])
def test_every_error_has_its_own_status_and_reason(field: str) -> None:
    values = [getattr(error, field) for error in REFUSALS]
    assert len(set(values)) == len(values) == 8


def test_an_internal_error_hides_its_cause() -> None:
    error = InternalError()
    assert isinstance(error, ServerError)
    assert error.code is grpc.StatusCode.INTERNAL
    assert str(error) == "the server failed to answer this request; its log says why"
