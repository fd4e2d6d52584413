from __future__ import annotations

import numpy as np

from server.config import ServerConfig
from server.memory import resident_bytes, shortage

MIB = 1 << 20
CONFIG = ServerConfig()
BUDGETS = CONFIG.input_budget_bytes + CONFIG.answer_budget_bytes


def test_a_limit_that_models_and_requests_fit_into_is_not_mentioned() -> None:
    assert shortage(CONFIG, 300 * MIB + BUDGETS, 300 * MIB) is None


def test_a_limit_that_is_too_low_is_told_with_what_is_needed() -> None:
    text = shortage(CONFIG, 1024 * MIB, 300 * MIB)
    assert text is not None
    assert "may use 1024 MiB of memory: the server holds 300 MiB with its models" in text
    assert f"may need {BUDGETS // MIB} MiB more" in text


def test_resident_memory_grows_with_what_is_used() -> None:
    before = resident_bytes()
    block = np.ones(64 * MIB, np.uint8)
    assert resident_bytes() - before > 32 * MIB
    assert block[-1] == 1
