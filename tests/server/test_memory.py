from __future__ import annotations

import platform
import subprocess
import sys

import numpy as np
import pytest

from server.config import ServerConfig
from server.memory import resident_bytes, shortage

MIB = 1 << 20
CONFIG = ServerConfig()
BUDGETS = CONFIG.input_budget_bytes + CONFIG.answer_budget_bytes
COUNT_NEW_PAGES = """
import resource, sys
from server.memory import keep_freed_memory

def answer_eight():
    answers = [bytes([1]) * 200_000 for _ in range(8)]

def new_pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(4):
    answer_eight()
before = new_pages()
for _ in range(25):
    answer_eight()
print((new_pages() - before) / (25 * 8))
"""


def new_pages_per_answer(kept: str) -> float:
    run = [sys.executable, "-c", COUNT_NEW_PAGES, kept]
    return float(subprocess.run(run, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators do not adapt like glibc's")
def test_answers_get_the_memory_of_earlier_ones() -> None:
    assert new_pages_per_answer("given back") > 10  # 49 pages hold 200,000 bytes
    assert new_pages_per_answer("kept") < 1


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
