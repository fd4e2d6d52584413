from __future__ import annotations

import pytest

from trainer.errors import UserError
from trainer.registry import Registry


def test_entries_are_found_by_name_in_insertion_order() -> None:
    registry: Registry[int] = Registry("thing")
    registry.add("two", 2)
    registry.add("one", 1)
    assert (registry["one"], list(registry), len(registry)) == (1, ["two", "one"], 2)
    assert "one" in registry
    assert "three" not in registry


def test_a_name_cannot_be_added_twice() -> None:
    registry: Registry[int] = Registry("thing")
    registry.add("one", 1)
    with pytest.raises(ValueError, match="'one' is registered twice"):
        registry.add("one", 2)


def test_an_unknown_name_is_an_error_that_lists_the_names() -> None:
    registry: Registry[int] = Registry("thing")
    registry.add("one", 1)
    with pytest.raises(UserError, match="--thing 'two': choose one of one"):
        registry["two"]
