from __future__ import annotations

import re
from typing import Any

import pytest

from server.errors import InvalidRequest
from server.open_inference.parameters import NO_OPTIONS, Options, read_options
from server.scheduling.queue import DEFAULT_PRIORITY, PRIORITY_LEVELS


@pytest.mark.parametrize(
    ("parameters", "options"),
    [
        ({}, NO_OPTIONS),
        ({"priority": 0}, Options(priority=DEFAULT_PRIORITY)),
        *(({"priority": level}, Options(priority=level)) for level in range(1, PRIORITY_LEVELS + 1)),
        ({"timeout": 0}, NO_OPTIONS),
        ({"timeout": 1}, Options(timeout_s=1e-6)),
        ({"timeout": 2**63 - 1}, Options(timeout_s=(2**63 - 1) / 1e6)),
        ({"triton_enable_empty_final_response": True}, Options(says_final=True)),
        ({"triton_enable_empty_final_response": False}, NO_OPTIONS),
        ({"binary_data_output": True}, NO_OPTIONS),
        ({"sequence_id": 0, "sequence_start": False, "sequence_end": False}, NO_OPTIONS),
        ({"sequence_id": ""}, NO_OPTIONS),
        ({"priority": 3, "timeout": 2_000_000}, Options(priority=3, timeout_s=2.0)),
    ],
)
def test_known_parameters_are_read(parameters: dict[str, Any], options: Options) -> None:
    assert read_options(parameters) == options


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("priority", 4, "parameters.priority is 4: send 1 (first) to 3 (last), or 0 for the default"),
        ("priority", -1, "parameters.priority is -1: send"),
        ("priority", 2**64 - 1, f"parameters.priority is {2**64 - 1}: send"),
        ("priority", True, "parameters.priority is True: send"),
        ("priority", 1.0, "parameters.priority is 1.0: send"),
        ("priority", "1", "parameters.priority is '1': send"),
        ("priority", None, "parameters.priority is None: send"),
        ("timeout", -1, "parameters.timeout is -1: send whole microseconds, or 0 for no timeout"),
        ("timeout", "x" * 9999, f"parameters.timeout is '{'x' * 80}...': send whole microseconds"),
        ("timeout", False, "parameters.timeout is False: send"),
        ("triton_enable_empty_final_response", 1, "parameters.triton_enable_empty_final_response is 1: send true or"),
        ("binary_data_output", False, "parameters.binary_data_output is False: answers are always raw"),
        ("sequence_id", 7, "parameters.sequence_id is 7: models keep no state between requests"),
        ("sequence_id", "a", "parameters.sequence_id is 'a': models keep no state"),
        ("sequence_start", True, "parameters.sequence_start is True: models keep no state"),
        ("sequence_end", True, "parameters.sequence_end is True: models keep no state"),
        ("headers", "", "parameter 'headers' is not supported: leave it out"),
        ("Priority", 1, "parameter 'Priority' is not supported: leave it out"),
        ("a\nb", 1, "parameter 'a\\nb' is not supported: leave it out"),
    ],
)
def test_unknown_or_invalid_parameters_are_refused_by_name(name: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{re.escape(message)}"):
        read_options({name: value})
