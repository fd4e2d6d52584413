"""What a call does, as a generator of steps: it decides, and whoever drives it does the sending and the waiting.

So the logic is written once, for blocking callers (`connection.py`) and for event loops (`aio_connection.py`). A driver
performs each step, sends its result back into the generator, and raises errors there; a step that fails is caught like
any call that does. What the generator leaves unanswered when it ends is cancelled.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias, TypeVar

Method: TypeAlias = Literal["ListModels", "DescribeModel", "Generate", "Translate", "Check"]

_Value = TypeVar("_Value")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Send:
    """Starts a request; gives a handle to wait on. `request` is the method's protobuf message."""

    method: Method
    request: Any


@dataclass(frozen=True)
class Wait:
    """Waits for the answer to a request that was started; gives it, or raises a GanClientError."""

    handle: Any


@dataclass(frozen=True)
class Pause:
    """Waits so many seconds."""

    pause_s: float


@dataclass(frozen=True)
class Emit(Generic[_Value]):
    """Hands a value to the caller, who may take its time."""

    value: _Value


Steps: TypeAlias = Generator[Send | Wait | Pause | Emit[_Value], Any, _Result]


def asked(method: Method, request: Any) -> Steps[Any, Any]:
    """Sends a request and waits for its answer, which it returns."""
    handle = yield Send(method, request)
    return (yield Wait(handle))


def emitted(value_of: Steps[Any, _Value]) -> Steps[_Value, None]:
    """Hands the result of `value_of` to the caller."""
    yield Emit((yield from value_of))
