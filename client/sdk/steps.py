"""A call as a generator of steps: the generator decides, and a driver sends, waits and sleeps.

The logic of the calls is written once, for blocking callers and for event loops; `transport.py` has a driver for
each. The driver performs a step and sends its result back into the generator, or throws its error there, where it can
be caught. Requests still unanswered when the generator ends are cancelled.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias, TypeVar

ControlMethod: TypeAlias = Literal["ListVersions", "LoadModel", "UnloadModel", "RollbackModel"]
Method: TypeAlias = Literal["ListModels", "DescribeModel", "Generate", "Translate", "Check"] | ControlMethod

_Value = TypeVar("_Value")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Send:
    """Starts a request, a protobuf message; the result is a handle to wait for."""

    method: Method
    request: Any


@dataclass(frozen=True)
class Wait:
    """Waits for a request that was started; the result is its response, the error a GanClientError."""

    handle: Any


@dataclass(frozen=True)
class Pause:
    """Sleeps."""

    pause_s: float


@dataclass(frozen=True)
class Emit(Generic[_Value]):
    """Hands a value to the caller."""

    value: _Value


Steps: TypeAlias = Generator[Send | Wait | Pause | Emit[_Value], Any, _Result]


def unary(method: Method, request: Any) -> Steps[Any, Any]:
    """Sends a request and returns its response."""
    handle = yield Send(method, request)
    return (yield Wait(handle))


def emitted(value_of: Steps[Any, _Value]) -> Steps[_Value, None]:
    """Emits the result of `value_of`."""
    yield Emit((yield from value_of))
