"""CycleGAN's memory of earlier fakes, which a discriminator is shown beside the newest ones.

Zhu et al. 2017, section 4, after Shrivastava et al. 2017, "Learning from Simulated and Unsupervised Images through
Adversarial Training", section 2.3: it keeps the discriminator from forgetting what the translator used to do. Knows
nothing of networks, training steps or files.
"""

from __future__ import annotations

import torch
from torch import Tensor


class ImagePool:
    """At most `capacity` fakes of one domain.

    What happens is decided by torch's global CPU generator, whatever device holds the images, so a checkpoint that
    holds torch's random state and `images` resumes bit-exactly.

    Args:
        capacity: how many images it holds; 0 remembers nothing.
        image_shape: (C, H, W) of every image, which restored images are checked against; None takes that of the first.
    """

    def __init__(self, capacity: int, image_shape: tuple[int, int, int] | None = None) -> None:
        if capacity < 0:
            raise ValueError(f"capacity is {capacity}; it is 0 (no memory) or more")
        self.capacity = capacity
        self._shape = image_shape
        self._stored: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._stored)

    @property
    def images(self) -> Tensor:
        """A copy of what is stored, (n, C, H, W); (0, 0, 0, 0) while the pool is empty."""
        return torch.stack(self._stored) if self._stored else torch.empty(0, 0, 0, 0)

    def query(self, images: Tensor) -> Tensor:
        """Takes fakes (N, C, H, W) and returns as many to show to the discriminator, without gradients.

        Image by image: until the pool is full, the image is stored and returned. Then, with probability 0.5, a random
        stored image is returned and the new one takes its place; otherwise the new one is returned and not stored.

        Raises:
            ValueError: the shape of the images is not that of the pool's.
        """
        images = images.detach()
        self._check_shape(images)
        if self.capacity == 0:
            return images
        return torch.stack([self._exchange(image) for image in images]) if len(images) else images

    def restore(self, images: Tensor) -> None:
        """Makes (n, C, H, W) the stored images; they may come from a file, so they are checked.

        Raises:
            ValueError: they are more than the pool holds, of another shape, no floating-point images, or not finite.
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
