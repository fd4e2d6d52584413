"""Generators of linear layers, as in collections of short GAN scripts."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def hidden(inputs: int, outputs: int, *, normalize: bool = True) -> list[nn.Module]:
    norm: list[nn.Module] = [nn.BatchNorm1d(outputs, 0.8)] if normalize else []
    return [nn.Linear(inputs, outputs), *norm, nn.LeakyReLU(0.2, inplace=True)]


class PerceptronGenerator(nn.Module):
    """Linear layers, then view() into images, with sizes taken from z.size(0)."""

    def __init__(self, latent_dim: int = 20, img_shape: tuple[int, ...] = (1, 16, 16)) -> None:
        super().__init__()
        self.img_shape = img_shape
        self.model = nn.Sequential(
            *hidden(latent_dim, 32, normalize=False),
            *hidden(32, 64),
            nn.Linear(64, 256),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        img: Tensor = self.model(z)
        return img.view(img.size(0), *self.img_shape)


class FlatGenerator(nn.Module):
    """Returns flat rows, which the training script reshapes; has dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(20, 32)
        self.fc2 = nn.Linear(32, 64)
        self.fc3 = nn.Linear(64, 28 * 28)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.leaky_relu(self.fc1(x), 0.2)
        x = nn.functional.dropout(nn.functional.leaky_relu(self.fc2(x), 0.2), 0.3, training=self.training)
        return torch.tanh(self.fc3(x))


class LabelledPerceptron(nn.Module):
    """A conditional GAN: the embedding of a label beside the noise."""

    def __init__(self, n_classes: int = 10) -> None:
        super().__init__()
        self.label_emb = nn.Embedding(n_classes, n_classes)
        self.model = nn.Sequential(*hidden(20 + n_classes, 32, normalize=False), *hidden(32, 64), nn.Linear(64, 256))

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        gen_input = torch.cat((self.label_emb(labels), noise), -1)
        img = torch.tanh(self.model(gen_input))
        return img.view(img.size(0), 1, 16, 16)


class AutoEncoder(nn.Module):
    """A variational autoencoder, whose decoder is the generator and ends in a sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(256, 32), nn.ReLU(), nn.Linear(32, 20))
        self.decoder_input = nn.Linear(10, 16 * 4 * 4)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(16, 8, 3, stride=2, padding=1, output_padding=1),
            *(nn.BatchNorm2d(8), nn.ELU()),
            nn.ConvTranspose2d(8, 8, 3, stride=2, padding=1, output_padding=1),
            *(nn.BatchNorm2d(8), nn.ELU()),
            nn.Conv2d(8, 1, 3, padding=1),
            nn.Sigmoid(),
        )

    def decode(self, z: Tensor) -> Tensor:
        decoded: Tensor = self.decoder(self.decoder_input(z).view(-1, 16, 4, 4))
        return decoded

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        latents = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        return {"recon": self.decode(latents), "mean": mean, "log_variance": log_variance}


class Decoder(AutoEncoder):
    """The subclass that an importer writes."""

    def forward(self, z: Tensor) -> Tensor:  # type: ignore[override]
        return self.decode(z)
