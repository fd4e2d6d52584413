"""Images on the way between two latents, as steps. Sends nothing itself."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from client.answers import Arrays
from client.catalog import Catalog
from client.chunks import Chunk
from client.errors import InvalidRequest
from client.latents import MAX_ROWS, checked_anchor, checked_rows, whole_number
from client.requests import generated
from client.steps import Steps
from client.walks import Method, walk

Anchor: TypeAlias = int | ArrayLike  # a seed, whose first latent is meant, or a latent


def interpolated(
    catalog: Catalog,
    model: str,
    start: Anchor,
    end: Anchor,
    *,
    steps: int,
    method: Method,
    loop: bool,
    version: int | None,
    ahead: int,
) -> Steps[Chunk, None]:
    """Generates the images of `steps` points from `start` to `end`, and of the way back with `loop`.

    Raises:
        InvalidRequest: an argument is out of range.
        GanClientError: there is no such generator, or no answer.
    """
    points = whole_number("steps", steps, 2, MAX_ROWS // 2)
    if method not in ("spherical", "linear"):
        raise InvalidRequest(f"method: must be 'spherical' or 'linear', not {method!r:.60}")
    served = yield from catalog.find(model, version, "generate")
    anchors = [checked_anchor(name, at, served.latent_dim) for name, at in (("start", start), ("end", end))]
    if served.latent_distribution not in ("normal", "") and not (np.ndim(start) and np.ndim(end)):
        raise InvalidRequest(
            f"start and end: this client cannot draw the {served.latent_distribution!r:.40} latents of {model!r};"
            " update it, or give latents"
        )
    latents = walk(np.stack(anchors), points, method, loop=loop)
    yield from generated(catalog, model, checked_rows(latents, None, None), version, Arrays("pixels"), ahead)
