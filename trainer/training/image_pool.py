"""CycleGAN's pool of earlier fakes, which a discriminator sees mixed with new ones.

Zhu et al. 2017, section 4, after Shrivastava et al. 2017, "Learning from Simulated and Unsupervised Images through
Adversarial Training", section 2.3: it keeps the discriminator from forgetting earlier outputs of the translator. Knows
no networks, training steps or files.
"""

from __future__ import annotations

import torch
from torch import Tensor


class ImagePool:
    """At most `capacity` fakes of one domain.

    All draws come from torch's global CPU generator, whatever device holds the images, so a checkpoint with torch's
    random state and `images` resumes bit-exactly.

    Args:
        capacity: images that the pool holds; with 0, `query` returns its input.
        image_shape: (C, H, W) that all images must have; None takes the shape of the first.
    """

    def __init__(self, capacity: int, image_shape: tuple[int, int, int] | None = None) -> None:
        if capacity < 0:
            raise ValueError(f"capacity is {capacity}; give 0 (no pool) or more")
        self.capacity = capacity
        self._shape = image_shape
        self._stored: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._stored)

    @property
    def images(self) -> Tensor:
        """A copy of the stored images, (n, C, H, W); (0, 0, 0, 0) while the pool is empty."""
        return torch.stack(self._stored) if self._stored else torch.empty(0, 0, 0, 0)

    def query(self, images: Tensor) -> Tensor:
        """Takes fakes (N, C, H, W) and returns as many for the discriminator, without gradients.

        Until the pool is full, each image is stored and returned. Then, with probability 0.5, a random stored image is
        returned and replaced by the new one; otherwise the new one is returned and not stored.

        Raises:
            ValueError: the images do not have the shape of the pool.
        """
        images = images.detach()
        self._check_shape(images)
        if self.capacity == 0:
            return images
        return torch.stack([self._exchange(image) for image in images]) if len(images) else images

    def restore(self, images: Tensor) -> None:
        """Replaces the stored images by (n, C, H, W), which may come from an untrusted file.

        Raises:
            ValueError: there are more than the pool holds, or they have another shape, are not floating point, or are
                not finite.
        """
        if images.ndim != 4 or not images.is_floating_point():
            raise ValueError(
                f"a pool holds floating-point images (n, C, H, W), not {images.dtype} {list(images.shape)}"
            )
        if len(images) > self.capacity:
            raise ValueError(f"a pool of {self.capacity} images cannot hold {len(images)}")
        if not images.isfinite().all():
            raise ValueError("the images of a pool are not finite")
        if len(images):
            self._check_shape(images)
        self._stored = [image.clone() for image in images]

    def _check_shape(self, images: Tensor) -> None:
        known = self._shape or (tuple(self._stored[0].shape) if self._stored else None)
        if known is not None and tuple(images.shape[1:]) != known:
            raise ValueError(f"images are {tuple(images.shape[1:])}, the pool's are {known}")

    def _exchange(self, image: Tensor) -> Tensor:
        if len(self._stored) < self.capacity:
            self._stored.append(image.clone())
            return image
        if torch.rand((), device="cpu").item() < 0.5:
            return image
        index = int(torch.randint(self.capacity, (), device="cpu").item())
        earlier = self._stored[index].to(image)
        self._stored[index] = image.clone()
        return earlier
