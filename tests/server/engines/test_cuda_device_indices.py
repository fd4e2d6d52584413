from __future__ import annotations

import pytest

from server.engines.onnx_cuda import cuda_device_indices
from server.errors import StartupError


@pytest.mark.parametrize(
    ("count", "wanted", "expected"), [(1, None, (0,)), (3, None, (0, 1, 2)), (3, [2, 0], (2, 0)), (1, [0], (0,))]
)
def test_devices_are_all_or_those_named(count: int, wanted: list[int] | None, expected: tuple[int, ...]) -> None:
    assert cuda_device_indices(count, wanted) == expected


@pytest.mark.parametrize(
    ("count", "wanted", "message"),
    [
        (0, None, "--device cuda: the NVIDIA driver shows no device; .* --device cpu"),
        (0, [0], "--device cuda: the NVIDIA driver shows no device; .* --device cpu"),
        (2, [0, 2], "--cuda-devices 0,2: there is no 2; this machine has 2, numbered from 0"),
        (2, [-1], "--cuda-devices -1: there is no -1"),
        (2, [1, 1], "--cuda-devices 1,1: name each once"),
        (2, [], "name each once, and at least one"),
    ],
)
def test_devices_that_cannot_be_used_are_refused(count: int, wanted: list[int] | None, message: str) -> None:
    with pytest.raises(StartupError, match=message):
        cuda_device_indices(count, wanted)
