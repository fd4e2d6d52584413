from __future__ import annotations

from server.models.version_state import Failure, ModelState


def test_a_model_that_left_the_repository_loses_what_an_operator_chose() -> None:
    state = ModelState(chosen=2, unloaded=True, excluded=frozenset({1}))
    state.forget_choices()
    assert (state.chosen, state.unloaded, state.excluded) == (None, False, frozenset())


def test_the_failure_of_one_version_is_kept_until_it_works() -> None:
    state = ModelState()
    failure = Failure("broken", ())
    state.record_failure(1, failure)
    before = state.failures
    state.record_failure(2, failure)
    state.record_failure(1, None)
    assert (before, state.failures) == ({1: failure}, {2: failure})  # threads may read the mapping of before
