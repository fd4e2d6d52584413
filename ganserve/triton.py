"""Writes NVIDIA Triton's config of a model. Part of the model repository contract, which bundle.py owns; no files."""

from __future__ import annotations

from ganserve.card import OUTPUT_IMAGES, OUTPUT_PIXELS, Card, proven_batch_rows


def triton_config(card: Card) -> str:
    """The text of config.pbtxt for a model with this card (Triton's ModelConfig; batch axis left out, as it asks).

    Triton serves model.onnx, and pays no attention to the files beside it.
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
