"""What a bundle is: its card, and the names and shapes of what its graph takes and gives. No files, no torch.

Part of the model repository contract, which bundle.py owns.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ganserve.latents import latents_from_seed

SCHEMA_VERSION: Final = 3
MAX_BATCH_ROWS: Final = 64
_MAX_BATCH_PIXELS: Final = 1 << 20  # of the images on either side: the activations of larger batches fill gigabytes

# Names of the graph's inputs and outputs, the same in ONNX, TorchScript (by position) and Triton's config.
INPUT_LATENTS = "latents"  # float32 (rows, latent_dim); of a generator
INPUT_PIXELS = "input_pixels"  # uint8 (rows, height, width, channels); of an image-to-image translator
OUTPUT_IMAGES = "images"  # float32 (rows, channels, height, width), in the card's value range
OUTPUT_PIXELS = "pixels"  # uint8 (rows, height, width, channels)

Positive = Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Parity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The largest differences from eager PyTorch, over every element, at one batch size."""

    rows: Positive
    torchscript_images: float
    onnx_images: float
    torchscript_pixels: int
    onnx_pixels: int


class Fidelity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far the pixels of a variant, in reduced precision, are from those of the network in float32."""

    images: Annotated[int, msgspec.Meta(ge=0)]  # compared; 0 if the network cannot be written in this precision
    within_one_level: Annotated[float, msgspec.Meta(ge=0, le=1)]  # share of pixel values
    psnr_db: float  # finite, also if nothing differs
    largest_level_difference: Annotated[int, msgspec.Meta(ge=0, le=255)]
    published: bool  # close enough, so that the bundle holds the file

    def __str__(self) -> str:
        if not self.images:
            return "the network does not run in this precision"
        return (
            f"{self.within_one_level:.3%} of pixel values within one level, PSNR {self.psnr_db:.1f} dB,"
            f" largest difference {self.largest_level_difference}, over {self.images} images"
        )


class LatentInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="latents"):
    """A generator's rows: latents."""

    latent_dim: Positive
    distribution: Literal["normal"] = "normal"

    name: ClassVar[str] = INPUT_LATENTS
    dtype: ClassVar[str] = "float32"

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row: (latent_dim,)."""
        return (self.latent_dim,)


class ImageInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="image"):
    """An image-to-image translator's rows: pixels."""

    channels: Annotated[int, msgspec.Meta(ge=1, le=4)]
    height: Positive
    width: Positive

    name: ClassVar[str] = INPUT_PIXELS
    dtype: ClassVar[str] = "uint8"

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row: (height, width, channels)."""
        return (self.height, self.width, self.channels)


RowInput = LatentInput | ImageInput


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a bundle is; stored as card.json."""

    schema_version: Literal[2, 3] = SCHEMA_VERSION  # 2 had no variants
    name: str
    version: Positive
    kind: str  # the model it was trained as: "dcgan", ...; empty for an imported generator
    architecture: str  # registry name, or "module:Class" for an imported generator
    dataset: str
    input: RowInput  # what a row is
    channels: Annotated[int, msgspec.Meta(ge=1, le=4)]
    height: Positive  # channels, height and width are of the images that come out
    width: Positive
    value_min: float = -1.0  # of OUTPUT_IMAGES
    value_max: float = 1.0
    files: dict[str, Sha256]
    parity: list[Parity]
    variants: dict[str, Fidelity] = {}  # by precision: those that were asked for, published or not
    training: dict[str, float | int | str | None]  # steps, images seen, metrics of the exported checkpoint
    tool_versions: dict[str, str]

    @property
    def outputs(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Dtype and shape of one row of each output, by name."""
        return {
            OUTPUT_IMAGES: ("float32", (self.channels, self.height, self.width)),
            OUTPUT_PIXELS: ("uint8", (self.height, self.width, self.channels)),
        }


def fitting_batch_rows(row_input: RowInput, height: int, width: int) -> int:
    """The most rows that should be computed at once, for images of this height and width to come out; at least 2.

    Images that go in count as well: the activations of a network are about as large as the larger side.
    """
    pixels_in = row_input.height * row_input.width if isinstance(row_input, ImageInput) else 0
    return max(2, _MAX_BATCH_PIXELS // max(height * width, pixels_in))


def proven_batch_rows(row_input: RowInput, height: int, width: int) -> int:
    """The largest batch that parity is proven for, and that Triton is told: 64 rows up to 128x128 pixels."""
    return min(MAX_BATCH_ROWS, fitting_batch_rows(row_input, height, width))


def example_rows(row_input: RowInput, seed: int, rows: int) -> NDArray[Any]:
    """Random rows to try a graph with: (rows, *row_shape), of the input's dtype."""
    if isinstance(row_input, LatentInput):
        return latents_from_seed(seed, rows, row_input.latent_dim)
    generator = np.random.Generator(np.random.PCG64(seed))
    return generator.integers(0, 256, (rows, *row_input.row_shape), dtype=np.uint8)
