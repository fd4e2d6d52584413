"""Cards of models that are never loaded, for tests of request checks."""

from __future__ import annotations

import msgspec

from ganserve.bundle import Card, ImageInput, LatentInput

GENERATOR = Card(
    name="tiny",
    version=3,
    kind="",
    architecture="tiny",
    dataset="noise",
    input=LatentInput(latent_dim=4),
    channels=3,
    height=4,
    width=6,
    files={},
    parity=[],
    training={},
    tool_versions={},
)

# Its output images have twice the size of its input images, so that the two cannot be confused.
TRANSLATOR = msgspec.structs.replace(
    GENERATOR, name="tiny-a2b", input=ImageInput(channels=3, height=4, width=6), height=8, width=12
)


def translator_of(channels: int, height: int, width: int) -> Card:
    """The card of a translator of images of this shape."""
    row_input = ImageInput(channels=channels, height=height, width=width)
    return msgspec.structs.replace(TRANSLATOR, input=row_input, channels=channels, height=height, width=width)
