from __future__ import annotations

from client.figures import FIGURES
from trainer.metrics.catalogue import CYCLE_FIGURES, GAN_FIGURES, figure_of


def test_every_figure_that_chooses_checkpoints_is_explained() -> None:
    assert set(FIGURES) >= {*GAN_FIGURES, *CYCLE_FIGURES}


def test_the_words_are_those_of_the_trainer() -> None:
    assert {name: f"{label}: {meaning}" for name, (label, meaning) in FIGURES.items()} == {
        name: str(figure_of(name)) for name in FIGURES
    }
