"""Adapts a network whose forward takes more than rows, or returns something other than images (N, C, H, W)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn

from exporter.errors import InputError


@dataclass(frozen=True)
class Signature:
    """How the forward of a network differs from rows -> images (N, C, H, W); by default, not at all.

    Args:
        forward_kwargs: Fixed arguments of forward beside the rows. A list is a tensor of one row, such as [3] for a
            label or [[0.0, 1.0]] for a one-hot vector; it is repeated for every row of the batch.
        output_item: Which part of the output holds the images: an index of a tuple or list, a key of a dict, or the
            name of an attribute.
        output_image: Shape (C, H, W) of outputs that are flat (N, C*H*W) or channels last (N, H, W, C).
    """

    forward_kwargs: Mapping[str, Any] = field(default_factory=dict)
    output_item: str | None = None
    output_image: tuple[int, int, int] | None = None


PLAIN: Final = Signature()


class AdaptedNetwork(nn.Module):
    """Calls a network with the arguments of a signature, and picks the images from what it returns.

    Args:
        network: Takes rows first.
        signature: How to call it.

    Raises:
        InputError: A list in `forward_kwargs` is not a tensor of one row.
    """

    def __init__(self, network: nn.Module, signature: Signature) -> None:
        super().__init__()
        self.network = network
        self.signature = signature
        self.channels_last = False  # of the network's images; set after a trial run, because a trace cannot decide it
        self.values = {name: value for name, value in signature.forward_kwargs.items() if not isinstance(value, list)}
        self.tensors = [name for name in signature.forward_kwargs if name not in self.values]
        for name in self.tensors:  # buffers, which follow the weights to another device or dtype
            row = _row_tensor(name, signature.forward_kwargs[name])
            self.register_buffer(f"argument_{name}", row, persistent=False)

    def output(self, rows: Tensor) -> Any:
        """What the network returns for rows, or the chosen item of it.

        Raises:
            InputError: The output has no such item.
        """
        tensors = {}
        for name in self.tensors:
            row = self.get_buffer(f"argument_{name}")
            tensors[name] = row.repeat(rows.shape[0], *[1] * (row.ndim - 1))
        output = self.network(rows, **self.values, **tensors)
        item = self.signature.output_item
        return output if item is None else _pick(output, item)

    def forward(self, rows: Tensor) -> Tensor:
        """Rows -> images, float32 (N, C, H, W)."""
        images: Tensor = self.output(rows)
        if self.channels_last:
            return images.permute(0, 3, 1, 2)
        if self.signature.output_image is None:
            return images
        return images.reshape(-1, *self.signature.output_image)


def describe(output: Any) -> str:
    """What a network returns, in a few words: "a tensor (2, 784)", "a tuple: 0 is a tensor (2, 3, 8, 8), ..."."""
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    if items := items_of(output):
        return f"a {type(output).__name__}: " + ", ".join(
            f"{name} is {describe(item) if isinstance(item, Tensor) else _type_of(item)}"
            for name, item in items.items()
        )
    return _type_of(output)


def items_of(output: Any) -> dict[str, Any]:
    """The items of a tuple, list, dict or object with attributes, by what --output-item calls them."""
    if isinstance(output, Mapping):
        return {str(key): item for key, item in output.items()}
    if isinstance(output, Sequence) and not isinstance(output, str):
        return {str(index): item for index, item in enumerate(output)}
    return dict(getattr(output, "__dict__", {}))


def looks_like_images(value: Any) -> bool:
    """Whether a value is a tensor (N, C, H, W) of 1 to 4 channels."""
    return isinstance(value, Tensor) and value.ndim == 4 and 1 <= value.shape[1] <= 4


def _pick(output: Any, item: str) -> Any:
    if isinstance(output, Sequence) and item.removeprefix("-").isdecimal():
        if -len(output) <= int(item) < len(output):
            return output[int(item)]
    elif item in (items := items_of(output)):
        return items[item]
    elif hasattr(output, item):  # a field of a named tuple
        return getattr(output, item)
    raise InputError(f"--output-item {item}: forward returns {describe(output)}")


def _row_tensor(name: str, value: list[Any]) -> Tensor:
    try:
        row = torch.tensor(value)
    except (ValueError, TypeError, RuntimeError):
        row = torch.empty(0)
    if row.ndim == 0 or len(row) != 1:
        raise InputError(
            f"--forward-kwargs: {name} is not a tensor of one row; write a label as [3], a one-hot vector as"
            " [[0.0, 1.0]]"
        )
    return row


def _type_of(value: Any) -> str:
    return f"a {type(value).__name__}"
