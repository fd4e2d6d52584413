"""The query string of the page's address: what the Explore tab shows, so that a link to it can be kept and shared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlencode

from client.errors import InvalidRequest
from client.explore.fields import MAX_SEED, dimensions_from, value_from, whole_number_from
from client.explore.tab import MAX_DIMENSIONS, MAX_SAMPLES, truncation_from

TABS: Final = ("explore", "morph", "traversal", "compare", "translate")

_MAX_QUERY: Final = 2000  # characters
_DIMENSION: Final = re.compile(r"z[0-9]{1,7}")
_DIRECTION: Final = re.compile(r"d[0-9]")


@dataclass(frozen=True)
class Link:
    """What a link names; every field has a default.

    Attributes:
        model: The model, NAME:VERSION; empty for any.
        tab: The open tab, of TABS; page.js adds it to the address.
        seed: Of the samples.
        count: The number of samples.
        truncation: The factor of the latents, 0 .. 1.
        row: The sample that is the starting picture.
        dimensions: Positions of moved dimension sliders, by dimension.
        directions: Positions of moved direction sliders, by their number, from 1.
    """

    model: str = ""
    tab: str = "explore"
    seed: int = 0
    count: int = 36
    truncation: float = 1.0
    row: int = 0
    dimensions: Mapping[int, float] = field(default_factory=dict)
    directions: Mapping[int, float] = field(default_factory=dict)

    def query(self) -> str:
        """The query string, beginning with "?"; defaults are left out."""
        pairs: list[tuple[str, object]] = [("model", self.model), ("seed", self.seed)]
        pairs += [("samples", self.count)] if self.count != Link.count else []
        pairs += [("truncation", f"{self.truncation:g}")] if self.truncation != Link.truncation else []
        pairs += [("sample", self.row)] if self.row else []
        pairs += [(f"z{dimension}", f"{value:g}") for dimension, value in self.dimensions.items()]
        pairs += [(f"d{number}", f"{value:g}") for number, value in self.directions.items() if value]
        return f"?{urlencode(pairs, safe=':')}"


def link_to_model(key: str) -> str:
    """The query string of a link to a model."""
    return f"?{urlencode([('model', key)], safe=':')}"


def link_from(query: str) -> Link:
    """Parses a query string; parameters that it does not know are left out.

    Raises:
        InvalidRequest: A value is out of range; the message names it.
    """
    given = dict(parse_qsl(query[:_MAX_QUERY].removeprefix("?")))
    count = whole_number_from("link, samples", given.get("samples", Link.count), 1, MAX_SAMPLES)
    dimensions = {
        int(name[1:]): value_from(f"link, {name}", given[name]) for name in given if _DIMENSION.fullmatch(name)
    }
    if len(dimensions) > MAX_DIMENSIONS:
        raise InvalidRequest(f"link: moves {len(dimensions)} dimensions; the limit is {MAX_DIMENSIONS}")
    tab = given.get("tab", Link.tab)
    return Link(
        model=given.get("model", ""),
        tab=tab if tab in TABS else Link.tab,
        seed=whole_number_from("link, seed", given.get("seed", Link.seed), 0, MAX_SEED),
        count=count,
        truncation=truncation_from(given.get("truncation", Link.truncation)),
        row=whole_number_from("link, sample", given.get("sample", Link.row), 0, count - 1),
        dimensions=dimensions,
        directions={
            int(name[1:]): value_from(f"link, {name}", given[name]) for name in given if _DIRECTION.fullmatch(name)
        },
    )


def dimensions_with(link: Link, text: str, latent_dim: int) -> list[int]:
    """The dimensions of the sliders: those of a field, unless the link moves others.

    Raises:
        InvalidRequest: The field is invalid, or the link moves a dimension that the model does not have.
    """
    dimensions = dimensions_from(text, latent_dim, MAX_DIMENSIONS)
    missing = [dimension for dimension in link.dimensions if dimension not in dimensions]
    for dimension in missing:
        whole_number_from("link, dimension", dimension, 0, latent_dim - 1)
    if missing:
        dimensions = [*link.dimensions, *(one for one in dimensions if one not in link.dimensions)]
    return dimensions[:MAX_DIMENSIONS]
