"""A model that every server serves, as files. Knows neither how they were made nor who serves them; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ganserve.bundle import INPUT_LATENTS, OUTPUT_IMAGES


@dataclass(frozen=True)
class ServedGraph:
    """One model, as files.

    `repository` holds our bundle of it and nothing else. `graph` is the ONNX file of the rivals: input `latents`,
    output `images` alone, both float32.
    """

    name: str
    latent_dim: int
    image_shape: tuple[int, ...]  # (C, H, W)
    repository: Path
    graph: Path
    left_out: tuple[str, ...] = ()  # reduced precisions that the exporter found too far off

    @property
    def image_bytes(self) -> int:
        """Of one float32 image."""
        return 4 * int(np.prod(self.image_shape))

    def latents(self, rows: int) -> NDArray[np.float32]:
        """Always the same latents, (rows, latent_dim)."""
        return np.random.default_rng(rows).standard_normal((rows, self.latent_dim), np.float32)

    def images(self, rows: int) -> NDArray[np.float32]:
        """What `latents(rows)` become, (rows, C, H, W)."""
        session = onnxruntime.InferenceSession(self.graph, providers=["CPUExecutionProvider"])
        images: NDArray[np.float32] = session.run([OUTPUT_IMAGES], {INPUT_LATENTS: self.latents(rows)})[0]
        return images
