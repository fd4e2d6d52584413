from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from exporter.sample import write_sample
from ganserve import bundle
from ganserve.grids import image_grid
from tests.exporter.conftest import Exported, graph_of, make_source
from tests.exporter.generators import FlatGenerator, randomise


def test_the_sample_shows_the_first_16_images_of_seed_0_magnified(tmp_path: Path) -> None:
    source = make_source(randomise(FlatGenerator()))
    write_sample(graph_of(source), source.input, 4, 4, tmp_path / "sample.png")
    _, pixels = graph_of(source)(torch.from_numpy(bundle.example_rows(source.input, 0, 16)))
    images = pixels.numpy().repeat(63, axis=1).repeat(63, axis=2)
    with Image.open(tmp_path / "sample.png") as sample:
        np.testing.assert_array_equal(np.asarray(sample), np.asarray(image_grid(images)))


def test_the_bundle_of_a_generator_has_a_sample_and_that_of_a_translator_none(
    exported: Exported, exported_translator: Exported
) -> None:
    with Image.open(exported.folder / bundle.SAMPLE_FILE) as sample:
        assert sample.mode == "RGB"
    assert bundle.SAMPLE_FILE not in exported.card.files
    assert not (exported_translator.folder / bundle.SAMPLE_FILE).exists()
