"""The card of a bundle, and the names, shapes and batch sizes of its graph.

The exporter writes a card, the server and trainer.evaluate read it. Import these names from `ganserve.bundle`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ganserve.latents import latents_from_seed

SCHEMA_VERSION: Final = 4
MAX_BATCH_ROWS: Final = 64
_MAX_BATCH_PIXELS: Final = 1 << 20  # of input or output images per batch; activations of larger batches take gigabytes

# Names of the graph's inputs and outputs in ONNX and in Triton's config; TorchScript goes by position.
INPUT_LATENTS = "latents"  # of a generator: float32 (rows, latent_dim)
INPUT_PIXELS = "input_pixels"  # of a translator: uint8 (rows, height, width, channels)
OUTPUT_IMAGES = "images"  # float32 (rows, channels, height, width), in the card's value range
OUTPUT_PIXELS = "pixels"  # uint8 (rows, height, width, channels)

MAX_STATEMENT: Final = 500  # characters
MAX_VERSION: Final = 2**63 - 1  # the largest of both protocols; dates such as 20260131 are versions, too
Positive = Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]
Statement = Annotated[str, msgspec.Meta(max_length=MAX_STATEMENT)]  # one line by the exporting user; may be empty
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Parity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The largest differences from eager PyTorch over all elements, at one batch size."""

    rows: Positive
    torchscript_images: float
    onnx_images: float
    torchscript_pixels: int
    onnx_pixels: int


class Fidelity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How close the pixels of a variant in reduced precision are to those of the network in float32."""

    images: Annotated[int, msgspec.Meta(ge=0)]  # number compared; 0 if the network does not run in this precision
    within_one_level: Annotated[float, msgspec.Meta(ge=0, le=1)]  # share of pixel values
    psnr_db: float  # capped, so that it is finite for equal pixels
    largest_level_difference: Annotated[int, msgspec.Meta(ge=0, le=255)]
    published: bool  # whether it is close enough, so that the bundle holds the file

    def __str__(self) -> str:
        if not self.images:
            return "the network does not run in this precision"
        return (
            f"{self.within_one_level:.3%} of pixel values within one level, PSNR {self.psnr_db:.1f} dB,"
            f" largest difference {self.largest_level_difference}, over {self.images} images"
        )


class LatentInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="latents"):
    """The input of a generator: one latent per row."""

    latent_dim: Positive
    # What a seed draws: see ganserve/latents.py. Older readers know "normal" alone, and rightly refuse a card with
    # another: they would draw latents that the generator has never seen.
    distribution: Literal["normal", "uniform", "sphere", "truncated-normal"] = "normal"

    name: ClassVar[str] = INPUT_LATENTS
    dtype: ClassVar[str] = "float32"

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of one row: (latent_dim,)."""
        return (self.latent_dim,)


class ImageInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="image"):
    """The input of an image-to-image translator: the pixels of one image per row."""

    channels: Annotated[int, msgspec.Meta(ge=1, le=4)]
    height: Positive
    width: Positive

    name: ClassVar[str] = INPUT_PIXELS
    dtype: ClassVar[str] = "uint8"

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of one row: (height, width, channels)."""
        return (self.height, self.width, self.channels)


RowInput = LatentInput | ImageInput


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The description of a bundle, stored as card.json."""

    # Version 2 had no variants, version 3 no license and no intended use.
    schema_version: Literal[2, 3, 4] = SCHEMA_VERSION
    name: str
    version: Annotated[int, msgspec.Meta(ge=1, le=MAX_VERSION)]
    kind: str  # the model it was trained as, such as "dcgan"; empty for an imported generator
    architecture: str  # a registry name, or "module:Class" for an imported generator
    dataset: str  # without the path of own pictures: "mnist", "folder:faces"; empty if unknown
    license: Statement = ""
    intended_use: Statement = ""
    input: RowInput
    channels: Annotated[int, msgspec.Meta(ge=1, le=4)]  # channels, height and width of the output images
    height: Positive
    width: Positive
    value_min: float = -1.0  # value range of OUTPUT_IMAGES
    value_max: float = 1.0
    files: dict[str, Sha256]  # by file name
    parity: list[Parity]
    variants: dict[str, Fidelity] = {}  # by precision: all that were requested, published or not
    training: dict[str, float | int | str | None]  # steps, images seen and metrics of the exported checkpoint
    tool_versions: dict[str, str]

    @property
    def outputs(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Dtype and shape of one row of each output, by name."""
        return {
            OUTPUT_IMAGES: ("float32", (self.channels, self.height, self.width)),
            OUTPUT_PIXELS: ("uint8", (self.height, self.width, self.channels)),
        }


def fitting_batch_rows(row_input: RowInput, height: int, width: int) -> int:
    """The largest batch whose activations fit in memory; at least 2 rows.

    Activations are about as large as the input or output images, whichever are larger.

    Args:
        row_input: The input of the model.
        height: Of the output images, in pixels.
        width: Of the output images, in pixels.
    """
    pixels_in = row_input.height * row_input.width if isinstance(row_input, ImageInput) else 0
    return max(2, _MAX_BATCH_PIXELS // max(height * width, pixels_in))


def proven_batch_rows(row_input: RowInput, height: int, width: int) -> int:
    """The largest batch in the parity check and in Triton's config: 64 rows up to 128x128 pixels, fewer above."""
    return min(MAX_BATCH_ROWS, fitting_batch_rows(row_input, height, width))


def example_rows(row_input: RowInput, seed: int, rows: int) -> NDArray[Any]:
    """Random input rows, (rows, *row_shape) in the input's dtype; the same for the same seed."""
    if isinstance(row_input, LatentInput):
        return latents_from_seed(seed, rows, row_input.latent_dim, row_input.distribution)
    generator = np.random.Generator(np.random.PCG64(seed))
    return generator.integers(0, 256, (rows, *row_input.row_shape), dtype=np.uint8)
