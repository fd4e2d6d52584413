from __future__ import annotations

import pytest
from torch import nn

from trainer.models import NetworkConfig, build_discriminator, build_generator


@pytest.mark.parametrize(
    ("architecture", "generator", "discriminator"),
    [
        ("mlp-shallow", ["Linear", "LeakyReLU"], ["Linear", "LeakyReLU"]),
        ("mlp-dropout", ["Linear", "LeakyReLU", "Dropout"] * 3, ["Linear", "LeakyReLU", "Dropout"] * 3),
        (
            "mlp-batchnorm",
            ["Linear", "LeakyReLU", *["Linear", "BatchNorm1d", "LeakyReLU"] * 3],
            ["Linear", "LeakyReLU"] * 2,
        ),
    ],
)
def test_each_architecture_has_its_hidden_layers(
    architecture: str, generator: list[str], discriminator: list[str]
) -> None:
    config = NetworkConfig(architecture=architecture, image_size=8, width=0.05)
    made, judged = build_generator(config), build_discriminator(config)
    assert isinstance(made, nn.Sequential)
    assert isinstance(judged, nn.Sequential)
    assert [type(layer).__name__ for layer in made] == [*generator, "Linear", "Tanh", "Unflatten"]
    assert [type(layer).__name__ for layer in judged] == ["Flatten", *discriminator, "Linear", "Flatten"]
