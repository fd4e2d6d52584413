"""The files of a model that every server serves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ganserve.bundle import INPUT_LATENTS, OUTPUT_IMAGES


@dataclass(frozen=True)
class ServedGraph:
    """The files of one model.

    `repository` holds only our bundle of it. `graph` is the ONNX file of the rivals: input `latents`, output `images`,
    both float32.
    """

    name: str
    latent_dim: int
    image_shape: tuple[int, ...]  # (C, H, W)
    repository: Path
    graph: Path
    left_out: tuple[str, ...] = ()  # reduced precisions that the exporter found too inaccurate

    @property
    def image_bytes(self) -> int:
        """Size of one float32 image."""
        return 4 * int(np.prod(self.image_shape))

    def latents(self, rows: int) -> NDArray[np.float32]:
        """Latents (rows, latent_dim), the same for each `rows`."""
        return np.random.default_rng(rows).standard_normal((rows, self.latent_dim), np.float32)

    def images(self, rows: int) -> NDArray[np.float32]:
        """The images of `latents(rows)`, (rows, C, H, W)."""
        session = onnxruntime.InferenceSession(self.graph, providers=["CPUExecutionProvider"])
        images: NDArray[np.float32] = session.run([OUTPUT_IMAGES], {INPUT_LATENTS: self.latents(rows)})[0]
        return images
