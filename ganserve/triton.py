"""The NVIDIA Triton config of a model; `ganserve.bundle` writes it to config.pbtxt when it publishes a version."""

from __future__ import annotations

from ganserve.card import Card, proven_batch_rows

_DATA_TYPES = {"float32": "TYPE_FP32", "uint8": "TYPE_UINT8"}


def triton_config(card: Card) -> str:
    """Returns the text of config.pbtxt, a Triton ModelConfig; its shapes leave out the batch axis.

    Triton serves model.onnx and ignores the other files.
    """
    outputs = ",\n".join(_tensor(name, dtype, shape) for name, (dtype, shape) in card.outputs.items())
    return f"""\
name: "{card.name}"
platform: "onnxruntime_onnx"
max_batch_size: {proven_batch_rows(card.input, card.height, card.width)}
input [
{_tensor(card.input.name, card.input.dtype, card.input.row_shape)}
]
output [
{outputs}
]
dynamic_batching {{ }}
"""


def _tensor(name: str, dtype: str, row_shape: tuple[int, ...]) -> str:
    dims = ", ".join(map(str, row_shape))
    return f'  {{ name: "{name}" data_type: {_DATA_TYPES[dtype]} dims: [ {dims} ] }}'
