from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from exporter.errors import InputError
from exporter.signature import PLAIN, AdaptedNetwork, Signature, describe

IMAGES = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).view(2, 3, 4, 5)
Named = namedtuple("Named", ["w", "sample"])  # as foreign code may return


@dataclass
class Holder:
    sample: Tensor


class Returns(nn.Module):
    """Returns one value for all input, and keeps the arguments of the last call."""

    def __init__(self, value: Any = IMAGES) -> None:
        super().__init__()
        self.value = value
        self.seen: dict[str, Any] = {}

    def forward(self, rows: Tensor, **arguments: Any) -> Any:
        self.seen = arguments
        return self.value


def call(value: Any, signature: Signature) -> Tensor:
    images: Tensor = AdaptedNetwork(Returns(value), signature)(torch.zeros(2, 6))
    return images


@pytest.mark.parametrize(
    ("value", "item"),
    [
        pytest.param((IMAGES, None), "0", id="tuple"),
        pytest.param([None, 3, IMAGES], "-1", id="last-of-list"),
        pytest.param({"mean": None, "recon": IMAGES}, "recon", id="dict"),
        pytest.param({0: IMAGES}, "0", id="dict-of-numbers"),
        pytest.param(Named(None, IMAGES), "sample", id="named-tuple-by-name"),
        pytest.param(Named(None, IMAGES), "1", id="named-tuple-by-index"),
        pytest.param(Holder(IMAGES), "sample", id="dataclass"),
    ],
)
def test_the_item_is_picked(value: Any, item: str) -> None:
    assert call(value, Signature(output_item=item)) is IMAGES


@pytest.mark.parametrize(
    ("value", "item", "found"),
    [
        pytest.param((IMAGES, None), "2", "a tuple: 0 is a tensor of shape (2, 3, 4, 5), 1 is a NoneType", id="index"),
        pytest.param({"recon": IMAGES}, "image", "a dict: recon is a tensor of shape (2, 3, 4, 5)", id="key"),
        pytest.param((IMAGES,), "image", "a tuple: 0 is a tensor", id="name-of-a-tuple"),
        pytest.param(IMAGES, "rgb", "a tensor of shape (2, 3, 4, 5)", id="a-tensor-has-no-items"),
    ],
)
def test_an_item_that_does_not_exist_is_answered_with_those_that_do(value: Any, item: str, found: str) -> None:
    with pytest.raises(InputError) as caught:
        call(value, Signature(output_item=item))
    assert str(caught.value).startswith(f"--output-item {item}: forward returns {found}")


def test_flat_rows_become_images_in_the_order_of_channels_rows_columns() -> None:
    torch.testing.assert_close(call(IMAGES.flatten(1), Signature(output_image=(3, 4, 5))), IMAGES)


def test_channels_last_are_turned_not_reshaped() -> None:
    adapted = AdaptedNetwork(Returns(IMAGES.permute(0, 2, 3, 1)), Signature(output_image=(3, 4, 5)))
    adapted.channels_last = True
    torch.testing.assert_close(adapted(torch.zeros(2, 6)), IMAGES)


def test_plain_values_are_passed_as_they_are_and_lists_as_a_tensor_of_all_rows() -> None:
    network = Returns()
    arguments = {"step": 5, "alpha": 0.5, "fused": False, "mode": "a", "none": None}
    lists: dict[str, Any] = {"labels": [3], "one_hot": [[0.0, 1.0]], "flags": [[1, 0]]}
    AdaptedNetwork(network, Signature(forward_kwargs=arguments | lists))(torch.zeros(2, 6))
    assert {name: network.seen[name] for name in arguments} == arguments
    for name, dtype in (("labels", torch.int64), ("one_hot", torch.float32), ("flags", torch.int64)):
        expected = torch.tensor(lists[name] * 2, dtype=dtype)
        torch.testing.assert_close(network.seen[name], expected)
        assert network.seen[name].is_contiguous()  # forward may call view()


def test_tensor_arguments_follow_the_weights_to_another_dtype() -> None:
    network = Returns()
    adapted = AdaptedNetwork(network, Signature(forward_kwargs={"code": [[0.5]], "labels": [3]})).to(torch.float16)
    adapted(torch.zeros(2, 6))
    assert network.seen["code"].dtype == torch.float16
    assert network.seen["labels"].dtype == torch.int64


@pytest.mark.parametrize("value", [[], [1, 2], [[1], [2]], [[1, 2], [3]], ["a"], [None]])
def test_a_list_that_is_not_a_tensor_of_one_row_is_refused(value: list[Any]) -> None:
    with pytest.raises(
        InputError, match=r"--forward-kwargs: labels is not a tensor of one row; write a label as \[3\]"
    ):
        AdaptedNetwork(Returns(), Signature(forward_kwargs={"labels": value}))


def test_without_a_signature_the_output_is_unchanged() -> None:
    assert call(IMAGES, PLAIN) is IMAGES


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (IMAGES, "a tensor of shape (2, 3, 4, 5)"),
        (None, "a NoneType"),
        ("text", "a str"),
        ((), "a tuple"),
        ([IMAGES, (IMAGES,)], "a list: 0 is a tensor of shape (2, 3, 4, 5), 1 is a tuple"),
        (Holder(IMAGES), "a Holder: sample is a tensor of shape (2, 3, 4, 5)"),
    ],
)
def test_outputs_are_described_in_a_few_words(output: Any, text: str) -> None:
    assert describe(output) == text
