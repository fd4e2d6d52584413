from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.errors import UserError
from trainer.settings import fields_of, parse_setting


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("epochs=3", "epochs", 3),
        ("lr=1e-4", "lr", 1e-4),
        ("mirror=false", "mirror", False),
        ("dataset=zip:faces.zip", "dataset", "zip:faces.zip"),
        ('dataset="folder:a b"', "dataset", "folder:a b"),
        ("dataset=", "dataset", ""),
        ("domains=['a', 'b']", "domains", ["a", "b"]),
        ("network.width=0.5", "network.width", 0.5),
        ("dataset=folder:a=b", "dataset", "folder:a=b"),
        ("dataset=1\nx = 2", "dataset", "1\nx = 2"),
        ("start=2020-01-01", "start", "2020-01-01"),
    ],
)
def test_settings_are_read_as_toml_or_as_plain_text(text: str, name: str, value: object) -> None:
    assert parse_setting(text) == (name, value)


@pytest.mark.parametrize("text", ["epochs", "=3", "a b=3", ""])
def test_a_setting_without_name_and_value_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--set"):
        parse_setting(text)


@given(st.text())
def test_any_value_is_read_or_refused(text: str) -> None:
    name, _ = parse_setting(f"key={text}")
    assert name == "key"


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        ({"lr": 0.1}, {"generator_lr": 0.1, "discriminator_lr": 0.1}),
        ({"generator_lr": 0.2, "lr": 0.1}, {"generator_lr": 0.2, "discriminator_lr": 0.1}),
        ({"steps": 7}, {"epochs": None, "steps": 7, "images": None}),
        ({"beta1": 0.0, "width": 2}, {"betas.0": 0.0, "network.width": 2}),
        ({"image_size": 48}, {"network.image_size": 48, "network.image_width": None}),
        ({"image_size": "64x48"}, {"network.image_size": 64, "network.image_width": 48}),
        ({"network.image_size": "64x64"}, {"network.image_size": 64, "network.image_width": None}),
        ({"network.spectral_norm": True}, {"network.spectral_norm": True}),
    ],
)
def test_settings_name_flags_or_fields(settings: dict[str, object], fields: dict[str, object]) -> None:
    assert fields_of(settings) == fields


def test_two_lengths_are_refused() -> None:
    with pytest.raises(UserError, match=r"^--epochs and --steps: give one of them$"):
        fields_of({"steps": 1, "epochs": 2})


@pytest.mark.parametrize("size", ["64x", "x64", "64x48x3", "64,48", "-64", "large", 6.5, True, ""])
def test_a_size_of_another_form_is_refused_with_examples(size: object) -> None:
    with pytest.raises(UserError, match=rf"^--image-size {size}: give the side .* such as 64, or .* such as 64x48$"):
        fields_of({"image_size": size})
