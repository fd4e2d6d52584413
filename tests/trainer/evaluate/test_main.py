"""The entry point: help that needs no torch."""

from __future__ import annotations

from tests.trainer.help_without_torch import help_without_torch


def test_help_does_not_import_torch() -> None:
    assert "--out" in help_without_torch("trainer.evaluate")
