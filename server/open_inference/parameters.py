"""The parameters of a ModelInfer request of the Open Inference Protocol.

    priority                              1 (first) to PRIORITY_LEVELS (last); 0 means the default
    timeout                               microseconds until the caller gives up; 0 means no timeout
    triton_enable_empty_final_response    whether to mark the final answer to each request of a stream
    binary_data_output                    true: answers are always raw
    sequence_id, sequence_start, sequence_end    0, empty or false: models are stateless

Every other parameter is refused by name: ignoring one would be a silent failure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from server.errors import InvalidRequest
from server.limits import quote
from server.scheduling.queue import DEFAULT_PRIORITY, PRIORITY_LEVELS

Value = bool | int | float | str | None  # None: sent without a value
_SEQUENCE: Final = frozenset({"sequence_id", "sequence_start", "sequence_end"})


class Options(NamedTuple):
    """The options that the parameters of a request set."""

    priority: int = DEFAULT_PRIORITY
    timeout_s: float | None = None  # from the arrival of the request
    says_final: bool = False  # mark the answer as the final one


NO_OPTIONS: Final = Options()


def read_options(parameters: Mapping[str, Value]) -> Options:
    """Reads all parameters of a request.

    Raises:
        InvalidRequest: one is unknown or has a wrong value.
    """
    options = NO_OPTIONS
    for name, value in parameters.items():
        if name == "priority":
            options = options._replace(priority=_priority(value))
        elif name == "timeout":
            options = options._replace(timeout_s=_timeout_s(value))
        elif name == "triton_enable_empty_final_response":
            if type(value) is not bool:
                raise InvalidRequest(f"parameters.{name} is {_show(value)}: send true or false")
            options = options._replace(says_final=value)
        elif name == "binary_data_output":
            if value is not True:
                raise InvalidRequest(f"parameters.{name} is {_show(value)}: answers are always raw, so leave it out")
        elif name in _SEQUENCE:
            if value:
                raise InvalidRequest(
                    f"parameters.{name} is {_show(value)}: models keep no state between requests, so leave it out"
                )
        else:
            raise InvalidRequest(f"parameter {quote(name)} is not supported: leave it out")
    return options


def _priority(value: Value) -> int:
    if type(value) is not int or not 0 <= value <= PRIORITY_LEVELS:
        raise InvalidRequest(
            f"parameters.priority is {_show(value)}: send 1 (first) to {PRIORITY_LEVELS} (last), or 0 for the default"
        )
    return value or DEFAULT_PRIORITY


def _timeout_s(value: Value) -> float | None:
    if type(value) is not int or value < 0:
        raise InvalidRequest(f"parameters.timeout is {_show(value)}: send whole microseconds, or 0 for no timeout")
    return value / 1e6 if value else None


def _show(value: Value) -> str:
    return quote(value) if isinstance(value, str) else str(value)
