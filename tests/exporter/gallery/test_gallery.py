"""Networks in the style of public repositories go from saved weights to served pixels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from torch import nn

from client import GanClient
from scripts.gallery_table import PAGE, levels_in, with_table
from tests.exporter.gallery.entries import GALLERY
from tests.exporter.gallery.measured import compare, served_gallery


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GanClient, dict[str, nn.Module]]]:
    with served_gallery(tmp_path_factory.mktemp("gallery")) as served:
        yield served


@pytest.mark.timeout(400)  # the first test waits for all exports
@pytest.mark.parametrize("name", GALLERY)
def test_served_pixels_are_those_of_eager_pytorch(name: str, gallery: tuple[GanClient, dict[str, nn.Module]]) -> None:
    client, networks = gallery
    compared = compare(name, client, networks[name])
    assert compared.served.shape == compared.levels.shape
    assert compared.levels.std() > 20  # an image of one colour would prove nothing
    assert np.abs(compared.levels[0] - compared.levels[1]).max() > 20  # nor would the same image for every row
    assert compared.largest_difference <= 1
    # A level halfway between two whole numbers may be rounded either way, on some machines and not on others.
    halfway = np.abs(compared.levels % 1 - 0.5)
    assert (halfway[compared.differences > 0] < 0.02).all()


def test_the_page_shows_the_whole_gallery() -> None:
    text = PAGE.read_text()
    levels = levels_in(text)
    assert set(levels.values()) <= {0, 1}
    assert with_table(text, levels) == text, "run python -m scripts.gallery_table"
