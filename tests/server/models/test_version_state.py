from __future__ import annotations

from server.models.version_state import ModelState


def test_a_model_that_left_the_repository_loses_what_an_operator_chose() -> None:
    state = ModelState(chosen=2, unloaded=True, excluded=frozenset({1}))
    state.forget_choices()
    assert (state.chosen, state.unloaded, state.excluded) == (None, False, frozenset())
