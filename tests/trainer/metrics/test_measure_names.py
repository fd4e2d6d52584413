from __future__ import annotations

from trainer.metrics.measure_names import DEFAULT_MEASURES, MEASURE_NAMES, TRAINING_MEASURES
from trainer.metrics.scorer import MEASURES


def test_the_names_are_those_of_the_scorer_in_its_order() -> None:
    assert tuple(MEASURES) == MEASURE_NAMES
    assert {*TRAINING_MEASURES, *DEFAULT_MEASURES} < MEASURES.keys()
