"""The NVIDIA Triton config of a model; `ganserve.bundle` writes it to config.pbtxt when it publishes a version."""

from __future__ import annotations

from ganserve.card import OUTPUT_IMAGES, OUTPUT_PIXELS, Card, proven_batch_rows


def triton_config(card: Card) -> str:
    """Returns the text of config.pbtxt, a Triton ModelConfig; its shapes leave out the batch axis.

    Triton serves model.onnx and ignores the other files.
    """
    data_type = {"float32": "TYPE_FP32", "uint8": "TYPE_UINT8"}[card.input.dtype]
    dims = ", ".join(map(str, card.input.row_shape))
    return f"""\
name: "{card.name}"
platform: "onnxruntime_onnx"
max_batch_size: {proven_batch_rows(card.input, card.height, card.width)}
input [
  {{ name: "{card.input.name}" data_type: {data_type} dims: [ {dims} ] }}
]
output [
  {{ name: "{OUTPUT_IMAGES}" data_type: TYPE_FP32 dims: [ {card.channels}, {card.height}, {card.width} ] }},
  {{ name: "{OUTPUT_PIXELS}" data_type: TYPE_UINT8 dims: [ {card.height}, {card.width}, {card.channels} ] }}
]
dynamic_batching {{ }}
"""
